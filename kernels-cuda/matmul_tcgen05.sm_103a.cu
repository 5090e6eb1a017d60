// matmul with x and w of one format on Blackwell's tensor cores: y = activation(x w^T + bias) + residual. One warp has
// the copy engine bring boxes of x and w into a ring of stages, one thread of another multiplies them into tensor
// memory, and four store a tile's sums while the next tile's grow beside them: there is room for two. Block-scaled
// formats have warps that bring the scales, each those of 128 rows, to where the products' thread copies them from into
// tensor memory. A block takes pieces until none are left, as in matmul_wgmma; `splits` ranges go to matmul_join.
//
// A step is 32 bytes of 128 rows of x and of a tile's rows of w, which are its columns. At 1.9 GHz on 148
// multiprocessors a datasheet's 2.5 PFLOP/s in 16 bits are 4,400 products a cycle, taken as 4,096; 8 bits give twice
// and 4 bits six times as many. Shared memory gives 128 bytes a cycle, and a step takes 12 KB of it at 256 columns: 96
// cycles. In 16 bits it multiplies for 128, so tensor cores limit; 8 bits for 51 of 80 at 192 columns (two tiles' sums
// and scales have to share 512 columns), 4 bits for 59 of 80: shared memory limits both, at 64% and 75% of their
// peaks, until pairs of blocks share w (cta_group::2). A stage of four steps is 48 KB (40 KB, and 1.5 or 6 of scales),
// of which L2 gives about 64 bytes a cycle: 750 (650) cycles against 512 (320), unless neighbours' stages are shared
// by multicast: this, not the tensor cores, limits tiles of one block. 4,096 rows of 4,096 by 4,096 bf16 weights: 512
// tiles, four rounds of 148 (86% full), each 64 stages of 750 cycles: 192,000 cycles, 0.1 ms, 1.36 PFLOP/s.
#include "lib/epilogue.h"
#include "lib/pieces.h"
#include "lib/small_float.h"
#include "lib/tcgen05.h"
#include "lib/tma.h"

constexpr uint32_t STAGE_BYTES = 128, STEPS = STAGE_BYTES / TCGEN05_BYTES, SLOTS = 2, TENSOR_COLUMNS = 512;
// Warps 0 to 3 store, as each reaches the lanes of its number only.
constexpr uint32_t STORING_WARPS = 4, COPYING_WARP = 4, MULTIPLYING_WARP = 5, FIRST_SCALING_WARP = 6;
constexpr uint32_t ATOM_ROWS = 128;

// Sums of a warp on their way out: 32 rows of 32 columns. With rows of 36 floats, four neighbours in rows that
// neighbour lie in different banks.
using Outgoing = float[32][36];

// Words of four scales that a stage has of each row.
constexpr uint32_t words_of(Tcgen05Format format) {
  return format == Tcgen05Format::nvfp4 ? STEPS : format == Tcgen05Format::mxfp8 ? 1 : 0;
}

// Scales of a stage as lib/tcgen05.h takes them: of x, and of each 128 rows of w.
template <uint32_t WORDS, uint32_t ATOMS>
struct Scales {
  uint32_t words[ATOMS][WORDS][ATOM_ROWS];
};
template <uint32_t ATOMS>
struct Scales<0, ATOMS> {};

template <Tcgen05Format FORMAT, uint32_t COLUMNS, uint32_t STAGES>
struct Ring {
  static constexpr uint32_t WORDS = words_of(FORMAT), ATOMS = 1 + (COLUMNS + ATOM_ROWS - 1) / ATOM_ROWS;
  uint8_t x[STAGES][TILE_ROWS][STAGE_BYTES];
  uint8_t w[STAGES][COLUMNS][STAGE_BYTES];
  Scales<WORDS, ATOMS> scales[STAGES];
  alignas(16) Outgoing outgoing[STORING_WARPS];
  Mbarrier full[STAGES], empty[STAGES], summed[SLOTS], stored[SLOTS];
  uint32_t tensor_memory;
};

// Depths are in bytes of a row.
struct Operands {
  const TensorMap &x, &w;
  // Of formats with scales: the tensors, of which scales follow the quants.
  const void *x_blocks, *w_blocks;
};

// Stores a warp's rows of 32 columns, through shared memory, so that a half warp has a row's neighbours.
DEVICE void store_columns(const float (&sum)[32], Outgoing& outgoing, const Epilogue& epilogue, const Product& product,
                          const Piece& piece, uint32_t row, uint32_t column) {
  const uint32_t lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (uint32_t i = 0; i < 32; i += 4)
    *reinterpret_cast<float4*>(&outgoing[lane][i]) = make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
  __syncwarp();
  const uint32_t at = lane % 16 * 2;
#pragma unroll 1
  for (uint32_t r = lane / 16; r < 32; r += 2) {
    if (row + r >= product.rows || column + at >= product.columns) break;
    const float2 pair = *reinterpret_cast<const float2*>(&outgoing[r][at]);
    epilogue.store_pair(static_cast<uint64_t>(piece.matrix) * product.rows + row + r, column + at, pair);
  }
}

// Four rows' words of a stage: of rows `row`, `row` + 32... below `end`, from byte `k` of the quants on.
template <uint32_t WORDS>
struct RowScales {
  uint32_t word[4][WORDS];

  DEVICE void load(const uint32_t* scales, uint32_t row, uint32_t end, uint32_t row_words, uint32_t k) {
#pragma unroll
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
      const uint32_t r = row + quarter * 32;
      const uint64_t at = static_cast<uint64_t>(r) * row_words + k / STAGE_BYTES * WORDS;
      if constexpr (WORDS == 4) {
        const uint4 four = r < end ? reinterpret_cast<const uint4*>(scales)[at / 4] : make_uint4(0, 0, 0, 0);
        word[quarter][0] = four.x;
        word[quarter][1] = four.y;
        word[quarter][2] = four.z;
        word[quarter][3] = four.w;
      } else {
        word[quarter][0] = r < end ? scales[at] : 0;
      }
    }
  }

  DEVICE void store(uint32_t (&to)[WORDS][ATOM_ROWS], uint32_t lane) const {
#pragma unroll
    for (uint32_t i = 0; i < WORDS; i++)
      reinterpret_cast<uint4*>(to[i])[lane] = make_uint4(word[0][i], word[1][i], word[2][i], word[3][i]);
  }
};

// A warp's part of a block-scaled product: the scales of 128 rows of x (atom 0) or w. Loads run a stage ahead.
template <class Stages, uint32_t STAGES, class Pieces>
DEVICE void bring_scales(Stages& ring, const Pieces& pieces, const Operands& operands, uint32_t atom) {
  constexpr uint32_t WORDS = Stages::WORDS;
  const Product& product = pieces.of;
  const uint32_t lane = threadIdx.x % 32, rows = atom == 0 ? product.rows : product.columns;
  const auto* quants = static_cast<const uint8_t*>(atom == 0 ? operands.x_blocks : operands.w_blocks);
  const auto* scales = reinterpret_cast<const uint32_t*>(quants + static_cast<uint64_t>(rows) * product.depth);
  const uint32_t row_words = product.depth / STAGE_BYTES * WORDS;
  Place<STAGES> next;
  for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x) {
    const Piece piece = pieces.at(i);
    const uint32_t row = atom == 0 ? piece.row : piece.column + (atom - 1) * ATOM_ROWS;
    RowScales<WORDS> now, ahead;
    now.load(scales, row + lane, rows, row_words, piece.k_first);
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
      if (k + STAGE_BYTES < piece.k_end) ahead.load(scales, row + lane, rows, row_words, k + STAGE_BYTES);
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      now.store(ring.scales[next.stage].words[atom], lane);
      fence_proxy_async();
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.full[next.stage]);
      now = ahead;
    }
  }
}

template <Tcgen05Format FORMAT, uint32_t COLUMNS, uint32_t STAGES>
DEVICE void matmul_tcgen05(const Operands& operands, const Epilogue& epilogue, const Product& product) {
  using Stages = Ring<FORMAT, COLUMNS, STAGES>;
  DYNAMIC_SHARED(ring, Stages);
  constexpr bool SCALED = tcgen05_scaled(FORMAT);
  constexpr uint32_t WORDS = Stages::WORDS, ATOMS = Stages::ATOMS, ELEMENT = FORMAT <= Tcgen05Format::bf16 ? 2 : 1;
  constexpr uint32_t SCALES_OF_X = SLOTS * COLUMNS, SCALES_OF_W = SCALES_OF_X + 4 * WORDS;
  static_assert(SCALES_OF_W + 4 * WORDS * (ATOMS - 1) <= TENSOR_COLUMNS);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Pieces<COLUMNS> pieces(product);
  if (warp == MULTIPLYING_WARP) {
    tmem_alloc(ring.tensor_memory, TENSOR_COLUMNS);
    tmem_relinquish();
  }
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(ring.full[s], SCALED ? 1 + ATOMS : 1);
      mbarrier_init(ring.empty[s], 1);
    }
    for (uint32_t s = 0; s < SLOTS; s++) {
      mbarrier_init(ring.summed[s], 1);
      mbarrier_init(ring.stored[s], STORING_WARPS);
    }
    mbarrier_fence_init();
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  const uint32_t tensor_memory = ring.tensor_memory;

  if (warp < STORING_WARPS) {
    Place<SLOTS> slot;
    float scale = 1;
    if constexpr (FORMAT == Tcgen05Format::nvfp4) {
      const uint64_t depth = 2 * product.depth;
      scale = NVFP4::tensor_scale(operands.x_blocks, product.rows * depth) *
              NVFP4::tensor_scale(operands.w_blocks, product.columns * depth);
    }
    for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x, slot.advance()) {
      const Piece piece = pieces.at(i);
      mbarrier_wait(ring.summed[slot.stage], slot.parity);
      tcgen05_fence_after();
#pragma unroll 1
      for (uint32_t first = 0; first < COLUMNS; first += 32) {
        float sum[32];
        tmem_load(sum, tmem_lane(tensor_memory + slot.stage * COLUMNS + first, warp * 32));
        tmem_wait(sum);
        if (first + 32 == COLUMNS) {
          tcgen05_fence_before();
          __syncwarp();
          if (lane == 0) mbarrier_arrive(ring.stored[slot.stage]);
        }
        if constexpr (FORMAT == Tcgen05Format::nvfp4) {
#pragma unroll
          for (uint32_t j = 0; j < 32; j++) sum[j] *= scale;
        }
        store_columns(sum, ring.outgoing[warp], epilogue, product, piece, piece.row + warp * 32, piece.column + first);
      }
    }
  } else if (warp == COPYING_WARP) {
    if (lane == 0) {
      tma_prefetch(operands.x);
      tma_prefetch(operands.w);
      Place<STAGES> next;
      for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x) {
        const Piece piece = pieces.at(i);
        for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
          Mbarrier& full = ring.full[next.stage];
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
          mbarrier_arrive_expect(full, sizeof ring.x[0] + sizeof ring.w[0]);
          tma_load(ring.x[next.stage], operands.x, k / ELEMENT, piece.row, full);
          tma_load(ring.w[next.stage], operands.w, k / ELEMENT, piece.column, full);
        }
      }
    }
  } else if (warp == MULTIPLYING_WARP) {
    if (lane == 0) {
      Place<STAGES> next;
      Place<SLOTS> slot;
      for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x, slot.advance()) {
        const Piece piece = pieces.at(i);
        const uint32_t sums = tensor_memory + slot.stage * COLUMNS;
        mbarrier_wait(ring.stored[slot.stage], slot.parity ^ 1);
        tcgen05_fence_after();
        for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance()) {
          mbarrier_wait(ring.full[next.stage], next.parity);
          tcgen05_fence_after();
          if constexpr (SCALED) {
            const auto& scales = ring.scales[next.stage].words;
#pragma unroll
            for (uint32_t j = 0; j < WORDS; j++) {
              tcgen05_copy_words(tensor_memory + SCALES_OF_X + 4 * j, tcgen05_words(scales[0][j]));
#pragma unroll
              for (uint32_t atom = 1; atom < ATOMS; atom++)
                tcgen05_copy_words(tensor_memory + SCALES_OF_W + 4 * (j * (ATOMS - 1) + atom - 1),
                                   tcgen05_words(scales[atom][j]));
            }
          }
#pragma unroll
          for (uint32_t step = 0; step < STEPS; step++) {
            const uint64_t x = tcgen05_rows(ring.x[next.stage], step * TCGEN05_BYTES);
            const uint64_t w = tcgen05_rows(ring.w[next.stage], step * TCGEN05_BYTES);
            const bool add = k > piece.k_first || step > 0;
            if constexpr (SCALED) {
              // A word of mxfp8 has the scales of all steps, of nvfp4 those of one.
              const uint32_t word = WORDS == 1 ? 0 : step, byte = WORDS == 1 ? step : 0;
              tcgen05_mma_scaled<FORMAT>(sums, x, w, tcgen05_instruction(FORMAT, TILE_ROWS, COLUMNS, byte),
                                         tensor_memory + SCALES_OF_X + 4 * word,
                                         tensor_memory + SCALES_OF_W + 4 * word * (ATOMS - 1), add);
            } else {
              tcgen05_mma<FORMAT>(sums, x, w, tcgen05_instruction(FORMAT, TILE_ROWS, COLUMNS), add);
            }
          }
          tcgen05_commit(ring.empty[next.stage]);
        }
        tcgen05_commit(ring.summed[slot.stage]);
      }
    }
  } else if constexpr (SCALED) {
    bring_scales<Stages, STAGES>(ring, pieces, operands, warp - FIRST_SCALING_WARP);
  }
  __syncthreads();
  tcgen05_fence_after();
  if (warp == MULTIPLYING_WARP) tmem_free(tensor_memory, TENSOR_COLUMNS);
}

template <Tcgen05Format FORMAT, uint32_t COLUMNS, uint32_t STAGES>
constexpr uint32_t RING_BYTES = sizeof(Ring<FORMAT, COLUMNS, STAGES>);
static_assert(RING_BYTES<Tcgen05Format::bf16, 256, 4> == 215168 && RING_BYTES<Tcgen05Format::bf16, 128, 6> == 215200 &&
              RING_BYTES<Tcgen05Format::mxfp8, 192, 5> == 231040 && RING_BYTES<Tcgen05Format::nvfp4, 192, 4> == 206960);

KERNEL_SHARED(matmul_tcgen05_bf16_256, 192, 215168, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::bf16, 256, 4>({x, w, nullptr, nullptr}, epilogue,
    {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_bf16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::bf16, 128, 6>({x, w, nullptr, nullptr}, epilogue,
    {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_f16_256, 192, 215168, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::f16, 256, 4>({x, w, nullptr, nullptr}, epilogue,
    {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_f16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::f16, 128, 6>({x, w, nullptr, nullptr}, epilogue,
    {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_mxfp8_192, 288, 231040, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::mxfp8, 192, 5>({x, w, x_blocks, w_blocks}, epilogue,
    {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_tcgen05_nvfp4_192, 288, 206960, TENSOR_MAP x, TENSOR_MAP w, const void* x_blocks,
              const void* w_blocks, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format,
              uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_tcgen05<Tcgen05Format::nvfp4, 192, 4>({x, w, x_blocks, w_blocks}, epilogue,
    {rows, columns, depth, splits, split_depth});
}
