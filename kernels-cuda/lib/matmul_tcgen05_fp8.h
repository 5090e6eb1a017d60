// Products of x and w both in e4m3_128, on Blackwell, for matmul and matmul_grouped. As lib/matmul_tcgen05.h has it,
// but that a stage is a block of 128 along k, whose sums leave tensor memory by themselves: they are added in f32
// registers to those before, times the scales of their row of x and row of w. Tensor cores could scale by powers of two
// alone (mxf8f6f4), which these scales are not: an exponent left to them would still leave a factor for each row and
// block, that no sum over several blocks has in common.
//
// A pair's stage of 256 x 256 x 128 is 8.4 M products, 512 cycles of two multiprocessors' tensor cores at 8,192 a
// cycle. Each block adds 32,768 sums: a multiplication and a multiply-add for two at a time (lib/f32_pair.h), 256
// cycles of the four schedulers, and some 80 for tensor memory's loads and scales; eight warps take turns with
// products' slots. Boxes are 32 KB and scales 1.5 KB for each block: 536 cycles of L2's 64 bytes. So L2 and tensor
// cores limit: 4,096 rows of 4,096 by 4,096 weights are 256 tiles, four rounds of 32 stages, 69,000 cycles, 36 us, 3.8
// PFLOP/s.
//
// A row has its scales side by side, and a stage takes one of each row: 384 sectors of 32 bytes for eight stages, 12 KB
// of L1, which has some 20 beside 208 KB of shared memory. Two warps take turns, and may be as many stages ahead as the
// ring of scales has.
#pragma once
#include "block_scales.h"
#include "f32_pair.h"
#include "matmul_tcgen05.h"
#include "warpgroup.h"

constexpr uint32_t SCALE_WARPS = 2;

template <class W>
struct Stages : Ring<W, RowsByThreads> {
  alignas(16) float x_scale[W::STAGES][TILE_ROWS];
  float w_scale[W::STAGES][W::COLUMNS];
  Mbarrier scaled[W::STAGES], unscaled[W::STAGES];
};

// sum += part * scale of its row of x * scale of its row of w.
DEVICE void add_scaled(float* sum, const float (&part)[32], float x_scale, const float* w_scale) {
  const float2 of_x = make_float2(x_scale, x_scale);
#pragma unroll
  for (uint32_t i = 0; i < 32; i += 4) {
    const float4 of_w = *reinterpret_cast<const float4*>(w_scale + i);
    const float2 low = multiply_pair(make_float2(part[i], part[i + 1]), make_float2(of_w.x, of_w.y));
    const float2 high = multiply_pair(make_float2(part[i + 2], part[i + 3]), make_float2(of_w.z, of_w.w));
    const float2 first = multiply_add_pair(low, of_x, make_float2(sum[i], sum[i + 1]));
    const float2 second = multiply_add_pair(high, of_x, make_float2(sum[i + 2], sum[i + 3]));
    sum[i] = first.x;
    sum[i + 1] = first.y;
    sum[i + 2] = second.x;
    sum[i + 3] = second.y;
  }
}

// A taking warp: 32 rows, and half of the columns, of the block's sums.
template <class W, class Work>
DEVICE void add_parts(Stages<W>& ring, RowsByThreads output, const Product& product, Work pieces) {
  constexpr uint32_t SUMS = W::COLUMNS / 2;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, above = warp % 4 * 32, left = warp / 4 * SUMS;
  Place<W::STAGES> next;
  Place<SLOTS> slot;
  for (uint32_t n = blockIdx.x / W::CTAS; pieces.has(n); n += gridDim.x / W::CTAS) {
    const Piece piece = pieces.at(n);
    float sum[SUMS] = {};
#pragma unroll 1
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance(), slot.advance()) {
      mbarrier_wait(ring.scaled[next.stage], next.parity);
      const float x_scale = ring.x_scale[next.stage][above + lane];
      wait_for_sums(ring, slot);
#pragma unroll
      for (uint32_t i = 0; i < SUMS; i += 32) {
        float part[32];
        take_sums<W>(ring, slot, left + i, i + 32 == SUMS, part);
        add_scaled(sum + i, part, x_scale, &ring.w_scale[next.stage][left + i]);
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.unscaled[next.stage]);
    }
    const uint32_t row = piece.row + blockIdx.x % W::CTAS * TILE_ROWS + above;
#pragma unroll
    for (uint32_t i = 0; i < SUMS; i += 32) {
      float part[32];
#pragma unroll
      for (uint32_t j = 0; j < 32; j++) part[j] = sum[i + j];
      output.store(part, ring.outgoing[warp], product, piece, row, piece.column + left + i);
    }
  }
}

// A scaling warp: every other stage's scales of the block's rows of x and of all the tile's rows of w.
template <class W, class Work>
DEVICE void bring_scales(Stages<W>& ring, const BlockScales& x, const BlockScales& w, Work pieces) {
  const uint32_t lane = threadIdx.x % 32, own = threadIdx.x / 32 - W::FIRST_SCALING_WARP;
  uint32_t turn = 0;
  Place<W::STAGES> next;
  for (uint32_t n = blockIdx.x / W::CTAS; pieces.has(n); n += gridDim.x / W::CTAS) {
    const Piece piece = pieces.at(n);
#pragma unroll 1
    for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_BYTES, next.advance(), turn ^= 1) {
      if (turn != own) continue;
      float of_x[4], of_w[W::COLUMNS / SCALED_ROWS][4];
      x.fetch(of_x, piece.row + blockIdx.x % W::CTAS * TILE_ROWS, k / STAGE_BYTES);
#pragma unroll
      for (uint32_t i = 0; i < W::COLUMNS / SCALED_ROWS; i++)
        w.fetch(of_w[i], piece.b_first + piece.column + i * SCALED_ROWS, k / STAGE_BYTES);
      mbarrier_wait(ring.unscaled[next.stage], next.parity ^ 1);
      BlockScales::put(ring.x_scale[next.stage], of_x);
#pragma unroll
      for (uint32_t i = 0; i < W::COLUMNS / SCALED_ROWS; i++)
        BlockScales::put(ring.w_scale[next.stage] + i * SCALED_ROWS, of_w[i]);
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.scaled[next.stage]);
    }
  }
}

// w has `w_rows` rows in memory, of several matrices where pieces say so.
template <class W, class Work>
DEVICE void matmul_tcgen05_fp8(const Operands& operands, uint32_t w_rows, const Epilogue& epilogue,
                               const Product& product, Work pieces) {
  DYNAMIC_SHARED(ring, Stages<W>);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0)
    for (uint32_t s = 0; s < W::STAGES; s++) {
      mbarrier_init(ring.scaled[s], 1);
      mbarrier_init(ring.unscaled[s], W::TAKING_WARPS);
    }
  begin<W>(ring);
  if (warp < W::TAKING_WARPS) {
    registers_take<208>();
    add_parts<W>(ring, RowsByThreads{epilogue}, product, pieces);
  } else {
    registers_give_back<88>();
    if (warp == W::COPYING_WARP) {
      if (lane == 0) bring_operands<W>(ring, operands, pieces);
    } else if (warp == W::MULTIPLYING_WARP) {
      if (lane == 0 && blockIdx.x % W::CTAS == 0) multiply<W>(ring, pieces);
    } else {
      bring_scales<W>(ring, BlockScales(operands.a_blocks, product.rows, product.depth),
                      BlockScales(operands.b_blocks, w_rows, product.depth), pieces);
    }
  }
  end<W>(ring);
}

using Pair = Way<Tcgen05Format::e4m3, 2, 256, 5>;
using Single = Way<Tcgen05Format::e4m3, 1, 128, 5>;
static_assert(Pair::FIRST_SCALING_WARP + SCALE_WARPS == 12);
static_assert(sizeof(Stages<Pair>) == 208608 && sizeof(Stages<Single>) == 206048);
