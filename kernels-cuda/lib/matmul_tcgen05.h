// Products on Blackwell's tensor cores: y[r,c] = sum over k of a(r,k) b(c,k), then what `output` makes of it, for
// matmul and its gradients. One warp has the copy engine bring boxes of a and b into a ring of stages, one thread of
// another multiplies them into tensor memory, and others take a tile's sums from there while the next tile's grow
// beside them: there is room for two. Block-scaled formats have warps that bring the scales, each those of 128 rows, to
// where the products' thread copies them from into tensor memory. A cluster takes pieces until none are left, as in
// lib/matmul_wgmma.h; `splits` ranges go to matmul_join.
//
// With CTAS 2 a cluster of two blocks is a pair (lib/tcgen05.h): a tile has 256 rows, of which each block has 128 of a
// and of the sums, and half of the tile's rows of b. Boxes of both count for block 0's barrier, whose thread multiplies
// for both and commits to the barriers of both.
//
// A step is 32 bytes of 128 rows of a and of a tile's rows of b, which are its columns, and a stage four steps. At
// 1.9 GHz on 148 multiprocessors a datasheet's 2.5 PFLOP/s in 16 bits are 4,400 products a cycle, taken as 4,096; 8
// bits give twice as many. L2 gives about 64 bytes a cycle. A pair's stage of 256 columns is 32 KB for each of its
// blocks: 512 cycles, and as many of tensor cores in 16 bits; shared memory gives 8 KB a step, 64 cycles of 128. So
// both limits meet, where a tile of one block has 48 KB of L2 for the same products. 4,096 rows of 4,096 by 4,096 bf16
// weights: 256 tiles, four rounds of 74 pairs (86% full), each 64 stages of 512 cycles: 131,000 cycles, 69 us,
// 2.0 PFLOP/s. With scales, two tiles' sums leave room for 224 columns: 30 KB and 1.4 of scales (5.5 of nvfp4's), 502
// (568) cycles, in which tensor cores work for 448 in 8 bits; L2 limits both. The datasheet's six times for 4 bits are
// of steps of 48 bytes, which rows of 128 do not hold.
//
// Storing a tile's sums takes four warps some 4,000 cycles, and 20,000 where a residual is read; either is hidden where
// a tile has as many: 8 and 40 stages.
#pragma once
#include "pieces.h"
#include "small_float.h"
#include "tcgen05_output.h"
#include "tcgen05_way.h"

// Has the copy engine bring `ROWS` of an operand, from `row` on, of a stage from element k on. The operand's rows in
// memory begin at `first`.
template <uint32_t CTAS, Major MAJOR, uint32_t ROWS>
DEVICE void load(uint8_t (*to)[STAGE_BYTES], const TensorMap& map, uint32_t first, uint32_t row, uint32_t k,
                 Mbarrier& full) {
  constexpr uint32_t STEP = MAJOR == Major::k ? ROWS : BOX;
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i += STEP) {
    const uint32_t column_of_box = MAJOR == Major::k ? k : row + i, row_of_box = first + (MAJOR == Major::k ? row : k);
    if constexpr (CTAS == 1)
      tma_load(to + i, map, column_of_box, row_of_box, full);
    else
      tma_load_pair(to + i, map, column_of_box, row_of_box, full);
  }
}

// The copying thread. Depths are in bytes of a row; of operands along m or n too.
template <class W, class Stages, class Work>
DEVICE void bring_operands(Stages& ring, const Operands& operands, Work pieces) {
  const uint32_t rank = blockIdx.x % W::CTAS;
  tma_prefetch(operands.a);
  tma_prefetch(operands.b);
  Place<W::STAGES> next;
  for (uint32_t i = blockIdx.x / W::CTAS; pieces.has(i); i += gridDim.x / W::CTAS) {
    const Piece piece = pieces.at(i);
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
      Mbarrier& full = ring.full[next.stage];
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      if (rank == 0) mbarrier_arrive_expect(full, W::CTAS * (sizeof ring.a[0] + sizeof ring.b[0]));
      const uint32_t a_row = piece.row + rank * TILE_ROWS, b_row = piece.column + rank * W::B_ROWS;
      load<W::CTAS, W::A, TILE_ROWS>(ring.a[next.stage], operands.a, 0, a_row, k / W::ELEMENT, full);
      load<W::CTAS, W::B, W::B_ROWS>(ring.b[next.stage], operands.b, piece.b_first, b_row, k / W::ELEMENT, full);
    }
  }
  // A block must not end before block 0 has arrived at its barriers for the last time.
  if constexpr (W::CTAS > 1)
    for (uint32_t s = 0; s < W::STAGES; s++, next.advance()) mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
}

// A warp's part of a block-scaled product: the scales of 128 rows of a (atom 0), the block's own, or of b, of which
// both blocks of a pair have all. Loads run a stage ahead.
template <class W, class Stages, class Work>
DEVICE void bring_scales(Stages& ring, const Operands& operands, const Product& product, Work pieces) {
  const uint32_t lane = threadIdx.x % 32, atom = threadIdx.x / 32 - W::FIRST_SCALING_WARP;
  const uint32_t rows = atom == 0 ? product.rows : product.columns;
  const uint32_t row_words = product.depth / STAGE_BYTES * W::WORDS;
  const auto* quants = static_cast<const uint8_t*>(atom == 0 ? operands.a_blocks : operands.b_blocks);
  const auto* scales = reinterpret_cast<const uint32_t*>(quants + static_cast<uint64_t>(rows) * product.depth);
  Place<W::STAGES> next;
  for (uint32_t i = blockIdx.x / W::CTAS; pieces.has(i); i += gridDim.x / W::CTAS) {
    const Piece piece = pieces.at(i);
    const uint32_t row = atom == 0 ? piece.row + blockIdx.x % W::CTAS * TILE_ROWS
                                   : piece.column + (atom - 1) * SCALED_ROWS;
    RowScales<W::WORDS> now, ahead;
    now.load(scales, row + lane, rows, row_words, piece.k_first / STAGE_BYTES);
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
      if (k + STAGE_BYTES < piece.k_end) ahead.load(scales, row + lane, rows, row_words, k / STAGE_BYTES + 1);
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      now.store(ring.scales[next.stage].words[atom], lane);
      fence_proxy_async();
      __syncwarp();
      if (lane == 0) arrive<W::CTAS>(ring.full[next.stage]);
      now = ahead;
    }
  }
}

// What a stage has of an operand, from step on.
template <Major MAJOR>
DEVICE uint64_t operand(const uint8_t (*tile)[STAGE_BYTES], uint32_t step) {
  return MAJOR == Major::k ? tcgen05_rows(tile, step * TCGEN05_BYTES)
                           : tcgen05_columns(tile, BOX_BYTES, step * BOX / STEPS);
}

template <class W, class Stages>
DEVICE void multiply_stage(Stages& ring, uint32_t stage, uint32_t sums, bool add) {
  constexpr uint32_t MAJORS =
    (W::A == Major::mn ? TCGEN05_A_COLUMNS : 0) | (W::B == Major::mn ? TCGEN05_B_COLUMNS : 0);
  const uint32_t tensor_memory = ring.tensor_memory;
  if constexpr (W::SCALED) {
    const auto& scales = ring.scales[stage].words;
#pragma unroll
    for (uint32_t j = 0; j < W::WORDS; j++) {
      tcgen05_copy_words<W::CTAS>(tensor_memory + W::SCALES_OF_A + 4 * j, tcgen05_words(scales[0][j]));
#pragma unroll
      for (uint32_t atom = 1; atom < W::ATOMS; atom++)
        tcgen05_copy_words<W::CTAS>(tensor_memory + W::SCALES_OF_B + 4 * (j * (W::ATOMS - 1) + atom - 1),
                                    tcgen05_words(scales[atom][j]));
    }
  }
#pragma unroll
  for (uint32_t step = 0; step < STEPS; step++) {
    const uint64_t a = operand<W::A>(ring.a[stage], step), b = operand<W::B>(ring.b[stage], step);
    // A word of mxfp8 has the scales of all steps, of nvfp4 those of one.
    const uint32_t word = W::WORDS == STEPS ? step : 0, byte = W::WORDS == 1 ? step : 0;
    const uint32_t instruction =
      tcgen05_instruction(W::FORMAT, W::CTAS * TILE_ROWS, W::COLUMNS, byte) | MAJORS;
    if constexpr (W::SCALED)
      tcgen05_mma_scaled<W::FORMAT, W::CTAS>(sums, a, b, instruction, tensor_memory + W::SCALES_OF_A + 4 * word,
                                             tensor_memory + W::SCALES_OF_B + 4 * word * (W::ATOMS - 1),
                                             add || step > 0);
    else
      tcgen05_mma<W::FORMAT, W::CTAS>(sums, a, b, instruction, add || step > 0);
  }
}

// The multiplying thread, of a pair that of block 0.
template <class W, class Stages, class Work>
DEVICE void multiply(Stages& ring, Work pieces) {
  Place<W::STAGES> next;
  Place<SLOTS> slot;
  for (uint32_t i = blockIdx.x / W::CTAS; pieces.has(i); i += gridDim.x / W::CTAS) {
    const Piece piece = pieces.at(i);
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
      const bool begins = W::PARTS || k == piece.k_first, ends = W::PARTS || k + STAGE_BYTES >= piece.k_end;
      if (begins) mbarrier_wait(ring.taken[slot.stage], slot.parity ^ 1);
      mbarrier_wait(ring.full[next.stage], next.parity);
      tcgen05_fence_after();
      multiply_stage<W>(ring, next.stage, ring.tensor_memory + slot.stage * W::COLUMNS, !begins);
      tcgen05_commit<W::CTAS>(ring.empty[next.stage]);
      if (!ends) continue;
      tcgen05_commit<W::CTAS>(ring.summed[slot.stage]);
      slot.advance();
    }
  }
}

// Until a slot has its sums, for a taking warp.
template <class Stages>
DEVICE void wait_for_sums(Stages& ring, const Place<SLOTS>& slot) {
  mbarrier_wait(ring.summed[slot.stage], slot.parity);
  tcgen05_fence_after();
}

// Gives a taking warp 32 columns of a slot's sums, and behind the last that it takes the slot back.
template <class W, class Stages>
DEVICE void take_sums(Stages& ring, const Place<SLOTS>& slot, uint32_t column, bool last, float (&sum)[32]) {
  const uint32_t lanes = threadIdx.x / 32 % 4 * 32;
  tmem_load(sum, tmem_lane(ring.tensor_memory + slot.stage * W::COLUMNS + column, lanes));
  tmem_wait(sum);
  if (!last) return;
  tcgen05_fence_before();
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive<W::CTAS>(ring.taken[slot.stage]);
}

// A taking warp whose sums are of whole pieces.
template <class W, class Stages, class Output, class Work>
DEVICE void store_sums(Stages& ring, const Operands& operands, Output output, const Product& product, Work pieces) {
  const uint32_t warp = threadIdx.x / 32, rank = blockIdx.x % W::CTAS;
  float scale = 1;
  if constexpr (W::FORMAT == Tcgen05Format::nvfp4) {
    const uint64_t depth = 2 * product.depth;
    scale = NVFP4::tensor_scale(operands.a_blocks, product.rows * depth) *
            NVFP4::tensor_scale(operands.b_blocks, product.columns * depth);
  }
  Place<SLOTS> slot;
  for (uint32_t n = blockIdx.x / W::CTAS; pieces.has(n); n += gridDim.x / W::CTAS, slot.advance()) {
    const Piece piece = pieces.at(n);
    const uint32_t row = piece.row + rank * TILE_ROWS + warp * 32;
    wait_for_sums(ring, slot);
#pragma unroll 1
    for (uint32_t column = 0; column < W::COLUMNS; column += 32) {
      float sum[32];
      take_sums<W>(ring, slot, column, column + 32 == W::COLUMNS, sum);
      if constexpr (W::FORMAT == Tcgen05Format::nvfp4) {
#pragma unroll
        for (uint32_t i = 0; i < 32; i++) sum[i] *= scale;
      }
      output.store(sum, ring.outgoing[warp], product, piece, row, piece.column + column);
    }
  }
  output.finish();
}

template <class W, class Output, class Work>
DEVICE void matmul_tcgen05(const Operands& operands, Output output, const Product& product, Work pieces) {
  using Stages = Ring<W, Output>;
  DYNAMIC_SHARED(ring, Stages);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  begin<W>(ring);
  if (warp < W::TAKING_WARPS)
    store_sums<W>(ring, operands, output, product, pieces);
  else if (warp == W::COPYING_WARP) {
    if (lane == 0) bring_operands<W>(ring, operands, pieces);
  } else if (warp == W::MULTIPLYING_WARP) {
    if (lane == 0 && blockIdx.x % W::CTAS == 0) multiply<W>(ring, pieces);
  } else if constexpr (W::SCALED) {
    bring_scales<W>(ring, operands, product, pieces);
  }
  end<W>(ring);
}

template <class W, class Output>
DEVICE void matmul_tcgen05(const Operands& operands, const Output& output, const Product& product) {
  const Pieces<W::COLUMNS, W::CTAS * TILE_ROWS> pieces(product);
  matmul_tcgen05<W>(operands, output, product, pieces);
}

template <class W, class Output>
constexpr uint32_t RING_BYTES = sizeof(Ring<W, Output>);
