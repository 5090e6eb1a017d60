// matmul with x in bf16 and w in quants on Hopper, for more rows than matmul_skinny takes at the speed of memory: y =
// activation(x w^T + bias) + residual, as y^T = w x^T. Weights are the left operand of wgmma, which may come from
// registers: a lane makes bf16 numbers of the quants of its rows, and x is read from shared memory as it lies. No
// weight is ever stored dequantized. One warpgroup has the copy engine fill a ring of stages, two multiply, each 64
// columns of y by the tile's rows. A stage is 128 bytes of a row of w. Sums over a block of quants are multiplied by its
// scale and added in f32, as contracts have it: rounding scaled weights to bf16 would cost three digits.
//
// 64 rows of x. 32 k of 128 columns are 2 m64n64k16 for each warpgroup, 128 cycles of tensor cores together; each
// of four schedulers issues two warps' conversions (32 in q4_0 and q8_0, 40 in e4m3_128), multiply-adds by the scale (32
// a block) and some 10 else: 148 instructions in q4_0 and q8_0, 108 in e4m3_128. At 20 bytes a cycle from memory the
// weights take 115 cycles in q4_0, 218 in q8_0 and 211 in e4m3_128. So in q4_0 instructions limit, at 78% of memory's
// speed (mma.sync, at 62% of the rate, would reach 56%), in 8 bits memory. 4,096 by 14,336 in q4_0 are 33 MB, 6.9 us at
// 4.8 TB/s, 8.8 here. Under way are 54 KB of weights in q4_0, 83 in 8 bits, of 25 that memory needs.
//
// 128 rows: 256 cycles of tensor cores, 212 and 140 instructions: tensor cores limit, as they do where all is in bf16.
#include "lib/epilogue.h"
#include "lib/pieces.h"
#include "lib/quant_pairs.h"
#include "lib/tma.h"
#include "lib/warpgroup.h"
#include "lib/wgmma.h"

constexpr uint32_t WARPGROUP = 128, CONSUMER_WARPS = 8, SCALE_WARPS = 3;
// Columns of y of a tile, rows of w; bytes that a stage has of each; columns of a box of x; k that are converted together.
constexpr uint32_t COLUMNS = 128, STAGE_BYTES = 128, BOX = 64, UNIT = 32;

// The bytes from `byte` on of a row of a stage, laid out as lib/tma.h says.
template <class T>
DEVICE T of_stage(const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row, uint32_t byte) {
  return *reinterpret_cast<const T*>(&tile[row][(byte / 16 ^ row % 8) * 16 + byte % 16]);
}

// Formats of w: k of a stage and of a block, the scales that a row has in a stage, and `pairs`, what the lane has of a
// row's UNIT k for two steps of wgmma: of 8 k each, 2 t and 2 t + 1.
struct StageQ4_0 {
  static constexpr uint32_t DEPTH = 256, BLOCK = 32;
  using Scales = uint4;
  DEVICE static float scale(const Scales& of, uint32_t block) {
    const uint32_t word[4] = {of.x, of.y, of.z, of.w};
    return f16_to_f32(word[block / 2] >> block % 2 * 16 & 0xffffu);
  }
  DEVICE static void pairs(uint32_t (&pair)[4], const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row,
                           uint32_t unit) {
    const uint4 block = of_stage<uint4>(tile, row, 16 * unit);
    const uint32_t word[4] = {block.x, block.y, block.z, block.w}, t = threadIdx.x % 4;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) pair[i] = q4_0_pair((word[i] >> 8 * t & 0xffu) * 0x1001u);
  }
};

// Quants of 8 bits.
template <class Pair>
DEVICE void pairs_of_bytes(uint32_t (&pair)[4], const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row,
                           uint32_t unit, const Pair& of) {
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
    pair[i] = of(of_stage<uint16_t>(tile, row, UNIT * unit + 8 * i + 2 * (threadIdx.x % 4)));
}

struct StageQ8_0 {
  static constexpr uint32_t DEPTH = 128, BLOCK = 32;
  using Scales = uint2;
  DEVICE static float scale(const Scales& of, uint32_t block) {
    return f16_to_f32((block < 2 ? of.x : of.y) >> block % 2 * 16 & 0xffffu);
  }
  DEVICE static void pairs(uint32_t (&pair)[4], const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row,
                           uint32_t unit) {
    pairs_of_bytes(pair, tile, row, unit, [](uint32_t bytes) { return q8_0_pair(bytes); });
  }
};

struct StageE4M3 {
  static constexpr uint32_t DEPTH = 128, BLOCK = 128;
  using Scales = float;
  DEVICE static float scale(const Scales& of, uint32_t) { return of; }
  DEVICE static void pairs(uint32_t (&pair)[4], const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row,
                           uint32_t unit) {
    pairs_of_bytes(pair, tile, row, unit, [](uint32_t bytes) { return e4m3_pair(bytes); });
  }
};

// A warp's sums on their way out: 16 rows of y by its 16 columns. With rows of 20 floats those of a step lie in
// different banks.
using Outgoing = float[16][20];

template <class W, uint32_t ROWS, uint32_t STAGES>
struct Ring {
  uint16_t x[STAGES][W::DEPTH / BOX][ROWS][BOX];
  uint8_t w[STAGES][COLUMNS][STAGE_BYTES];
  typename W::Scales scales[STAGES][COLUMNS];
  Outgoing outgoing[CONSUMER_WARPS];
  Mbarrier full[STAGES], empty[STAGES];
};

// The left operand of two steps: rows `row` and `row` + 8 of the tile.
template <class W>
DEVICE void left_operand(uint32_t (&a)[2][4], const uint8_t (&tile)[COLUMNS][STAGE_BYTES], uint32_t row,
                         uint32_t unit) {
#pragma unroll
  for (uint32_t half = 0; half < 2; half++) {
    uint32_t pair[4];
    W::pairs(pair, tile, row + 8 * half, unit);
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) a[i / 2][i % 2 * 2 + half] = pair[i];
  }
}

// Rows of y, of which a lane has as lib/wgmma.h says, from `column` of the warp on.
template <uint32_t SUMS>
DEVICE void store(const float (&sum)[SUMS], Outgoing& shared, const Epilogue& epilogue, const Product& product,
                  const Piece& piece, uint32_t column) {
  const uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (uint32_t first = 0; first < SUMS; first += 8) {
    __syncwarp();
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) shared[i / 4 * 8 + 2 * t + i % 2][g + i % 4 / 2 * 8] = sum[first + i];
    __syncwarp();
    const uint32_t c = lane % 8 * 2;
#pragma unroll 1
    for (uint32_t r = lane / 8; r < 16; r += 4) {
      const uint32_t row = piece.row + 2 * first + r;
      if (row >= product.rows || column + c >= product.columns) break;
      const float2 pair = *reinterpret_cast<const float2*>(&shared[r][c]);
      epilogue.store_pair(static_cast<uint64_t>(piece.matrix) * product.rows + row, column + c, pair);
    }
  }
}

template <class W, uint32_t ROWS, uint32_t STAGES>
DEVICE void matmul_quants(const TensorMap& x, const TensorMap& w, const void* blocks, const Epilogue& epilogue,
                          const Product& product) {
  using Stages = Ring<W, ROWS, STAGES>;
  DYNAMIC_SHARED(ring, Stages);
  const uint32_t warpgroup = threadIdx.x / WARPGROUP, lane = threadIdx.x % 32;
  const Pieces<COLUMNS, ROWS> pieces(product);
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(ring.full[s], 2);  // for the boxes and for the scales
      mbarrier_init(ring.empty[s], CONSUMER_WARPS);
    }
    mbarrier_fence_init();
  }
  __syncthreads();

  Place<STAGES> next;
  if (warpgroup == 0) {
    registers_give_back<56>();
    const uint32_t warp = threadIdx.x / 32, stages = product.depth / W::DEPTH;
    // Behind the quants of all rows.
    const typename W::Scales* scales = reinterpret_cast<const typename W::Scales*>(
      static_cast<const uint8_t*>(blocks) + static_cast<uint64_t>(product.columns) * stages * STAGE_BYTES);
    if (threadIdx.x == 0) {
      tma_prefetch(x);
      tma_prefetch(w);
    }
    uint32_t turn = 0;
    for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x) {
      const Piece piece = pieces.at(i);
      for (uint32_t k = piece.k_first; k < piece.k_end; k += W::DEPTH, next.advance()) {
        Mbarrier& full = ring.full[next.stage];
        turn = turn == SCALE_WARPS ? 1 : turn + 1;
        if (threadIdx.x == 0) {
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
          mbarrier_arrive_expect(full, sizeof ring.x[0] + sizeof ring.w[0]);
#pragma unroll
          for (uint32_t box = 0; box < W::DEPTH / BOX; box++)
            tma_load(ring.x[next.stage][box], x, k + box * BOX, piece.row, full);
          tma_load(ring.w[next.stage], w, k / W::DEPTH * STAGE_BYTES, piece.column, full);
        } else if (warp == turn) {
          typename W::Scales of_row[COLUMNS / 32];
#pragma unroll
          for (uint32_t r = 0; r < COLUMNS / 32; r++) {
            const uint64_t row = min(piece.column + r * 32 + lane, product.columns - 1);
            of_row[r] = scales[row * stages + k / W::DEPTH];
          }
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
#pragma unroll
          for (uint32_t r = 0; r < COLUMNS / 32; r++) ring.scales[next.stage][r * 32 + lane] = of_row[r];
          __syncwarp();
          if (lane == 0) mbarrier_arrive(full);
        }
      }
    }
  } else {
    registers_take<224>();
    const uint32_t warp = threadIdx.x / 32 - 4, row = warp * 16 + lane / 4;
    for (uint32_t i = blockIdx.x; i < pieces.count(); i += gridDim.x) {
      const Piece piece = pieces.at(i);
      float sum[ROWS / 2] = {};
      for (uint32_t k = piece.k_first; k < piece.k_end; k += W::DEPTH, next.advance()) {
        mbarrier_wait(ring.full[next.stage], next.parity);
        const typename W::Scales upper = ring.scales[next.stage][row], lower = ring.scales[next.stage][row + 8];
        float part[ROWS / 2];
        uint32_t a[2][2][4];  // of a unit, and of the next one, which is converted while this one is multiplied
        left_operand<W>(a[0], ring.w[next.stage], row, 0);
#pragma unroll
        for (uint32_t unit = 0; unit < W::DEPTH / UNIT; unit++) {
          wgmma_fence();
#pragma unroll
          for (uint32_t step = 0; step < 2; step++)
            wgmma<WgmmaFormat::bf16>(
              part, a[unit % 2][step],
              wgmma_rows(ring.x[next.stage][unit * UNIT / BOX], unit * UNIT % BOX + step * 16),
              unit * UNIT % W::BLOCK + step > 0);
          wgmma_commit();
          if ((unit + 1) * UNIT < W::DEPTH) left_operand<W>(a[(unit + 1) % 2], ring.w[next.stage], row, unit + 1);
          wgmma_wait<0>();
          if ((unit + 1) * UNIT % W::BLOCK > 0) continue;
          const float up = W::scale(upper, unit * UNIT / W::BLOCK), low = W::scale(lower, unit * UNIT / W::BLOCK);
#pragma unroll
          for (uint32_t e = 0; e < ROWS / 2; e++) sum[e] += (e % 4 < 2 ? up : low) * part[e];
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(ring.empty[next.stage]);
      }
      store(sum, ring.outgoing[warp], epilogue, product, piece, piece.column + warp * 16);
    }
  }
}

static_assert(sizeof(Ring<StageQ4_0, 64, 4>) == 215104 && sizeof(Ring<StageQ4_0, 128, 2>) == 178208);
static_assert(sizeof(Ring<StageQ8_0, 64, 6>) == 213088 && sizeof(Ring<StageQ8_0, 128, 4>) == 211008);
static_assert(sizeof(Ring<StageE4M3, 64, 6>) == 210016 && sizeof(Ring<StageE4M3, 128, 4>) == 208960);

KERNEL_SHARED(matmul_quants_q4_0_64, 384, 215104, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageQ4_0, 64, 4>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_quants_q4_0_128, 384, 178208, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageQ4_0, 128, 2>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_quants_q8_0_64, 384, 213088, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageQ8_0, 64, 6>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_quants_q8_0_128, 384, 211008, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageQ8_0, 128, 4>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_quants_e4m3_128_64, 384, 210016, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageE4M3, 64, 6>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_quants_e4m3_128_128, 384, 208960, TENSOR_MAP x, TENSOR_MAP w, const void* w_blocks,
              OPTIONAL const void* bias, OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns,
              uint32_t depth, uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_quants<StageE4M3, 128, 4>(x, w, w_blocks, epilogue, {rows, columns, depth, splits, split_depth});
}
