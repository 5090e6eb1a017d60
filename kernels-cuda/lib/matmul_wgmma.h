// Products of operands in bf16 or f16 on Hopper: y[r,c] = sum over k of a(r,k) b(c,k), then what `output` makes of it,
// for matmul, matmul_grouped and the gradients of both. One warpgroup has the copy engine bring boxes of a and b into a
// ring of stages; two others multiply, each 64 rows by the tile's columns, whose sums stay in its registers. A block
// takes tiles until none are left: while it finishes one, the ring fills for the next. As in matmul_mma the reduction
// may be cut into `splits` ranges of `split_depth`, for matmul_join.
//
// An operand that lies in memory as rows along k is K-major: a stage's part of it is one box. One that lies as rows
// along y's rows or columns is MN-major: its part is boxes of 64 of these by 64 k, as many bytes.
//
// The wide variants run in clusters of two blocks that are neighbours in columns: each brings half of their common
// part of a to both. A stage of 128 x 256 x 64 is 2.1 M products, 1,024 cycles of tensor cores at the datasheet's
// 2,048 a cycle, and 48 KB, 40 KB of them from L2: 40 bytes a cycle, of about 64 that a multiprocessor can take.
// Shared memory gives each m64n256k16 10 KB in its 128 cycles, 80 bytes of 128 a cycle; m64n192k16 85, m64n128k16 96,
// m64n64k16 all 128. So tensor cores limit: 4,096 rows of 4,096 by 4,096 weights are 137 GFLOP, 139 us at 989 TFLOP/s,
// and 512 tiles on 132 multiprocessors are four rounds, the last nearly full (97%). Storing a tile's sums is 128 KB,
// 1.1 us at 64 bytes a cycle, in which tensor cores wait: 3% of 36 us a tile at that depth. 132 tiles that run
// together are 16 down and 8 across: a step of all is 2,048 rows of a and 2,112 of b, 0.5 MB in 0.56 us, which memory
// has to give once.
#pragma once
#include "barrier.h"
#include "cluster.h"
#include "matmul_output.h"
#include "pieces.h"
#include "warpgroup.h"
#include "wgmma.h"

constexpr uint32_t STAGE_DEPTH = 64, WARPGROUP = 128, CONSUMER_WARPS = 8;

template <uint32_t COLUMNS, uint32_t STAGES, class Output>
struct Ring {
  uint16_t a[STAGES][TILE_ROWS][STAGE_DEPTH];
  uint16_t b[STAGES][COLUMNS][STAGE_DEPTH];
  typename Output::Shared outgoing[CONSUMER_WARPS];
  Mbarrier full[STAGES], empty[STAGES];
};

// Columns of an MN-major box, and its rows: those of a stage along k.
constexpr uint32_t BOX = 64;
static_assert(BOX == STAGE_DEPTH);

// Has the copy engine bring `ROWS` of an operand, from `row` on, of a stage from k on, to the blocks that have a bit
// in `RANKS`; a 1 alone is the calling one. The operand's rows in memory begin at `first`.
template <WgmmaMajor MAJOR, uint32_t ROWS, uint32_t RANKS>
DEVICE void load(uint16_t (*to)[STAGE_DEPTH], const TensorMap& map, uint32_t first, uint32_t row, uint32_t k,
                 Mbarrier& full) {
  constexpr uint32_t STEP = MAJOR == WgmmaMajor::k ? ROWS : BOX;
#pragma unroll
  for (uint32_t i = 0; i < ROWS; i += STEP) {
    const uint32_t column_of_box = MAJOR == WgmmaMajor::k ? k : row + i;
    const uint32_t row_of_box = first + (MAJOR == WgmmaMajor::k ? row : k);
    if constexpr (RANKS == 1)
      tma_load(to + i, map, column_of_box, row_of_box, full);
    else
      tma_load_shared(to + i, map, column_of_box, row_of_box, full, RANKS);
  }
}

// What a stage has of an operand, from its row `tile` on, from step on.
template <WgmmaMajor MAJOR>
DEVICE uint64_t operand(const uint16_t (*tile)[STAGE_DEPTH], uint32_t step) {
  return MAJOR == WgmmaMajor::k ? wgmma_rows(tile, step) : wgmma_columns(tile, BOX, step);
}

// Zeros in what a stage has of an MN-major operand from its k `end` on: rows of another piece, which may be anything, a
// NaN too. All threads of the two warpgroups that multiply do, then `cleared`.
template <uint32_t ROWS>
DEVICE void clear_from(uint32_t end, uint16_t (*operand)[STAGE_DEPTH]) {
  constexpr uint32_t CHUNKS = STAGE_DEPTH / 8;
  const uint32_t thread = threadIdx.x - WARPGROUP;
  for (uint32_t row = thread / CHUNKS; row < ROWS; row += 2 * WARPGROUP / CHUNKS)
    if (row % BOX >= end) *reinterpret_cast<uint4*>(&operand[row][thread % CHUNKS * 8]) = make_uint4(0, 0, 0, 0);
}
DEVICE void cleared() {
  fence_proxy_async();
  barrier_sync(1, 2 * WARPGROUP);
}

template <WgmmaFormat FORMAT, WgmmaMajor A_MAJOR, WgmmaMajor B_MAJOR, uint32_t COLUMNS, uint32_t STAGES,
          uint32_t BLOCKS, class Output, class Work>
DEVICE void matmul_wgmma(const TensorMap& a, const TensorMap& b, Output output, const Product& product, Work pieces) {
  using Stages = Ring<COLUMNS, STAGES, Output>;
  DYNAMIC_SHARED(ring, Stages);
  static_assert(!Work::RAGGED || (A_MAJOR == WgmmaMajor::mn && B_MAJOR == WgmmaMajor::mn));
  constexpr uint32_t SHARE = TILE_ROWS / BLOCKS, ALL = (1u << BLOCKS) - 1;
  const uint32_t warpgroup = threadIdx.x / WARPGROUP, lane = threadIdx.x % 32, rank = blockIdx.x % BLOCKS;
  const uint32_t first = blockIdx.x / BLOCKS, clusters = gridDim.x / BLOCKS;
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(ring.full[s], 1);
      mbarrier_init(ring.empty[s], CONSUMER_WARPS * BLOCKS);
    }
    mbarrier_fence_init();
  }
  cluster_sync();

  Place<STAGES> next;
  if (warpgroup == 0) {
    registers_give_back<40>();
    if (threadIdx.x == 0) {
      tma_prefetch(a);
      tma_prefetch(b);
      for (uint32_t i = first; pieces.has(i); i += clusters) {
        const Piece piece = pieces.at(i);
        for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_DEPTH, next.advance()) {
          Mbarrier& full = ring.full[next.stage];
          // Free in all blocks: this one writes to the others' stages too.
          mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
          mbarrier_arrive_expect(full, sizeof ring.a[0] + sizeof ring.b[0]);
          load<A_MAJOR, SHARE, ALL>(ring.a[next.stage] + rank * SHARE, a, 0, piece.row + rank * SHARE, k, full);
          load<B_MAJOR, COLUMNS, 1>(ring.b[next.stage], b, piece.b_first, piece.column + rank * COLUMNS, k, full);
        }
      }
    }
  } else {
    registers_take<232>();
    const uint32_t warp = threadIdx.x / 32 - 4, above = (warpgroup - 1) * 64;
    for (uint32_t i = first; pieces.has(i); i += clusters) {
      const Piece piece = pieces.at(i);
      float sum[COLUMNS / 2];
      uint32_t before = 0;
      for (uint32_t k = piece.k_first; k < piece.k_end; k += STAGE_DEPTH, next.advance()) {
        mbarrier_wait(ring.full[next.stage], next.parity);
        if constexpr (Work::RAGGED) {
          if (piece.k_end - k < STAGE_DEPTH) {
            clear_from<TILE_ROWS>(piece.k_end - k, ring.a[next.stage]);
            clear_from<COLUMNS>(piece.k_end - k, ring.b[next.stage]);
            cleared();
          }
        }
        wgmma_fence();
#pragma unroll
        for (uint32_t step = 0; step < STAGE_DEPTH; step += 16)
          wgmma<FORMAT, A_MAJOR, B_MAJOR>(sum, operand<A_MAJOR>(ring.a[next.stage] + above, step),
                                          operand<B_MAJOR>(ring.b[next.stage], step), k > piece.k_first || step > 0);
        wgmma_commit();
        // The products before these are done: their stage may be filled again.
        wgmma_wait<1>();
        if (lane < BLOCKS && k > piece.k_first) mbarrier_arrive_at(ring.empty[before], lane);
        before = next.stage;
      }
      wgmma_wait<0>();
      if (lane < BLOCKS) mbarrier_arrive_at(ring.empty[before], lane);
      output.store(sum, ring.outgoing[warp], product, piece, piece.row + above + warp % 4 * 16,
                   piece.column + rank * COLUMNS);
    }
    output.finish();
  }
  cluster_sync();
}

template <WgmmaFormat FORMAT, WgmmaMajor A_MAJOR, WgmmaMajor B_MAJOR, uint32_t COLUMNS, uint32_t STAGES,
          uint32_t BLOCKS, class Output>
DEVICE void matmul_wgmma(const TensorMap& a, const TensorMap& b, const Output& output, const Product& product) {
  const Pieces<COLUMNS * BLOCKS> pieces(product);
  matmul_wgmma<FORMAT, A_MAJOR, B_MAJOR, COLUMNS, STAGES, BLOCKS>(a, b, output, product, pieces);
}

static_assert(sizeof(Ring<256, 4, ByThreads>) == 217152 && sizeof(Ring<256, 4, ByBoxes>) == 229440);
static_assert(sizeof(Ring<192, 4, ByThreads>) == 184384 && sizeof(Ring<192, 4, ByBoxes>) == 196672);
static_assert(sizeof(Ring<128, 6, ByThreads>) == 217184 && sizeof(Ring<128, 6, ByBoxes>) == 229472);
static_assert(sizeof(Ring<64, 8, ByThreads>) == 217216 && sizeof(Ring<64, 8, ByBoxes>) == 229504);
