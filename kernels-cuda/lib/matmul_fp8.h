// Products of x and w both in e4m3_128, on Hopper, for matmul and matmul_grouped. As lib/matmul_wgmma.h has it, one
// warpgroup fills a ring of stages and two multiply. A stage is a block of 128 along k: its sums, which tensor cores
// keep to about 14 bits, are added in f32 to those before, times the scales of their row of x and row of w.
//
// A stage of 128 x 128 x 128 is 2.1 M products, 512 cycles of tensor cores at the datasheet's 4,096 a cycle. Its 16,384
// sums take two instructions each (part * scale of w, then that times the scale of x added): 256 cycles of the four
// schedulers, and about 60 for scales and barriers. A warpgroup waits for its 256 cycles of products, adds for 160, and
// would leave tensor cores idle, but for the other warpgroup, whose products run meanwhile. So tensor cores limit:
// 4,096 rows of 4,096 by 4,096 weights are 69 us at 1,979 TFLOP/s. Boxes are 32 KB, in clusters of two 24 KB from L2,
// 48 bytes a cycle of about 64, and scales 1 KB.
//
// A row has its scales side by side, and a stage takes one of each row: 256 sectors of 32 bytes of which it needs 4.
// The other 28 are for the stages that follow: five stages of shared memory, or four where sums leave through boxes
// (lib/matmul_output.h), leave 60 KB of L1, where 8 KB of sectors live that long. Three warps of the first warpgroup
// take turns, so that each has three stages' time for its loads.
#pragma once
#include "block_scales.h"
#include "cluster.h"
#include "matmul_output.h"
#include "pieces.h"
#include "warpgroup.h"
#include "wgmma.h"

constexpr uint32_t WARPGROUP = 128, CONSUMER_WARPS = 8;

// Rows of both operands, and elements along k, that a stage has: 128 bytes of a row.
constexpr uint32_t COLUMNS = 128, STAGE_DEPTH = 128, SCALE_WARPS = 3;

template <uint32_t STAGES, class Output>
struct Ring {
  uint8_t x[STAGES][TILE_ROWS][STAGE_DEPTH];
  uint8_t w[STAGES][COLUMNS][STAGE_DEPTH];
  float x_scale[STAGES][TILE_ROWS];
  float w_scale[STAGES][COLUMNS];
  typename Output::Shared outgoing[CONSUMER_WARPS];
  Mbarrier full[STAGES], empty[STAGES];
};

// sum += part * scale of its row of x * scale of its row of w, laid out as lib/wgmma.h says.
DEVICE void add_scaled(float (&sum)[COLUMNS / 2], const float (&part)[COLUMNS / 2], float upper, float lower,
                       const float (&w_scale)[COLUMNS]) {
  const uint32_t t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t i = 0; i < COLUMNS / 2; i += 4) {
    const float2 scale = *reinterpret_cast<const float2*>(&w_scale[2 * i + 2 * t]);
    sum[i] += part[i] * scale.x * upper;
    sum[i + 1] += part[i + 1] * scale.y * upper;
    sum[i + 2] += part[i + 2] * scale.x * lower;
    sum[i + 3] += part[i + 3] * scale.y * lower;
  }
}

template <uint32_t STAGES, uint32_t BLOCKS, class Output, class Work>
DEVICE void matmul_fp8(const TensorMap& x, const TensorMap& w, const BlockScales& x_scales, const BlockScales& w_scales,
                       Output output, const Product& product, Work pieces) {
  using Stages = Ring<STAGES, Output>;
  DYNAMIC_SHARED(ring, Stages);
  constexpr uint32_t SHARE = TILE_ROWS / BLOCKS, ALL = (1u << BLOCKS) - 1;
  const uint32_t warpgroup = threadIdx.x / WARPGROUP, lane = threadIdx.x % 32, rank = blockIdx.x % BLOCKS;
  const uint32_t first = blockIdx.x / BLOCKS, clusters = gridDim.x / BLOCKS;
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(ring.full[s], 2);  // for the boxes and for the scales
      mbarrier_init(ring.empty[s], CONSUMER_WARPS * BLOCKS);
    }
    mbarrier_fence_init();
  }
  cluster_sync();

  Place<STAGES> next;
  if (warpgroup == 0) {
    registers_give_back<72>();
    const uint32_t warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
      tma_prefetch(x);
      tma_prefetch(w);
    }
    uint32_t turn = 0;
    for (uint32_t i = first; pieces.has(i); i += clusters) {
      const Piece piece = pieces.at(i);
      const uint32_t w_row = piece.b_first + piece.column + rank * COLUMNS;
      for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_DEPTH, next.advance()) {
        Mbarrier& full = ring.full[next.stage];
        turn = turn == SCALE_WARPS ? 1 : turn + 1;
        if (threadIdx.x == 0) {
          // Free in all blocks: this one writes to the others' stages too.
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
          mbarrier_arrive_expect(full, sizeof ring.x[0] + sizeof ring.w[0]);
          auto share = ring.x[next.stage] + rank * SHARE;
          if constexpr (BLOCKS == 1)
            tma_load(share, x, k, piece.row, full);
          else
            tma_load_shared(share, x, k, piece.row + rank * SHARE, full, ALL);
          tma_load(ring.w[next.stage], w, k, w_row, full);
        } else if (warp == turn) {
          float of_x[4], of_w[4];
          x_scales.fetch(of_x, piece.row, k / STAGE_DEPTH);
          w_scales.fetch(of_w, w_row, k / STAGE_DEPTH);
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
          BlockScales::put(ring.x_scale[next.stage], of_x);
          BlockScales::put(ring.w_scale[next.stage], of_w);
          __syncwarp();
          if (lane == 0) mbarrier_arrive(full);
        }
      }
    }
  } else {
    registers_take<216>();
    const uint32_t warp = threadIdx.x / 32 - 4, above = (warpgroup - 1) * 64, row = above + warp % 4 * 16 + lane / 4;
    for (uint32_t i = first; pieces.has(i); i += clusters) {
      const Piece piece = pieces.at(i);
      float sum[COLUMNS / 2] = {};
      for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_DEPTH, next.advance()) {
        float part[COLUMNS / 2];
        mbarrier_wait(ring.full[next.stage], next.parity);
        wgmma_fence();
#pragma unroll
        for (uint32_t step = 0; step < STAGE_DEPTH; step += 32)
          wgmma<WgmmaFormat::e4m3>(part, wgmma_rows<1>(ring.x[next.stage] + above, step),
                                   wgmma_rows<1>(ring.w[next.stage], step), step > 0);
        wgmma_commit();
        const float upper = ring.x_scale[next.stage][row], lower = ring.x_scale[next.stage][row + 8];
        wgmma_wait<0>();
        add_scaled(sum, part, upper, lower, ring.w_scale[next.stage]);
        __syncwarp();
        if (lane < BLOCKS) mbarrier_arrive_at(ring.empty[next.stage], lane);
      }
      output.store(sum, ring.outgoing[warp], product, piece, piece.row + above + warp % 4 * 16,
                   piece.column + rank * COLUMNS);
    }
    output.finish();
  }
  cluster_sync();
}

template <uint32_t STAGES, uint32_t BLOCKS, class Output>
DEVICE void matmul_fp8(const TensorMap& x, const TensorMap& w, const BlockScales& x_scales, const BlockScales& w_scales,
                       const Output& output, const Product& product) {
  const Pieces<COLUMNS * BLOCKS> pieces(product);
  matmul_fp8<STAGES, BLOCKS>(x, w, x_scales, w_scales, output, product, pieces);
}

static_assert(sizeof(Ring<5, ByThreads>) == 189520 && sizeof(Ring<4, ByBoxes>) == 168000);
