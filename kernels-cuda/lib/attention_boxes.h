// Rows of heads in 16 bits as the copy engine leaves them in shared memory, and their products by a warpgroup.
#pragma once
#include "mma.h"
#include "storage.h"
#include "tma.h"
#include "wgmma.h"

constexpr uint32_t BOX_DIMS = 64;

// ROWS rows of DIM dims, 64 dims of all rows after each other.
template <uint32_t DIM, uint32_t ROWS>
using Boxes = uint16_t[DIM / BOX_DIMS][ROWS][BOX_DIMS];

// Brings the columns from `column` on of ROWS rows from `row` on; boxes of `from` have `box_rows` rows.
template <uint32_t DIM, uint32_t ROWS>
DEVICE void load_boxes(Boxes<DIM, ROWS>& to, const TensorMap& from, uint32_t column, uint32_t row, uint32_t box_rows,
                       Mbarrier& barrier) {
  for (uint32_t r = 0; r < ROWS; r += box_rows)
    for (uint32_t d = 0; d < DIM / BOX_DIMS; d++) tma_load(to[d][r], from, column + d * BOX_DIMS, row + r, barrier);
}

// sum = 64 rows of `left` from `row` on times all rows of `right`, over their dims.
template <WgmmaFormat FORMAT, uint32_t DIM, uint32_t LEFT, uint32_t RIGHT>
DEVICE void multiply_rows(float (&sum)[RIGHT / 2], const Boxes<DIM, LEFT>& left, uint32_t row,
                          const Boxes<DIM, RIGHT>& right) {
#pragma unroll
  for (uint32_t d = 0; d < DIM; d += 16)
    wgmma<FORMAT>(sum, wgmma_rows(left[d / BOX_DIMS][row], d % BOX_DIMS),
                  wgmma_rows(right[d / BOX_DIMS], d % BOX_DIMS), d > 0);
}

// sum += weights times the rows of `right`. A thread's weights are those of its sums of multiply_rows, in pairs.
template <WgmmaFormat FORMAT, uint32_t DIM, uint32_t RIGHT>
DEVICE void add_weighted_rows(float (&sum)[DIM / 2], const uint32_t (&weights)[RIGHT / 16][4],
                              const Boxes<DIM, RIGHT>& right) {
#pragma unroll
  for (uint32_t k = 0; k < RIGHT; k += 16)
    wgmma<FORMAT, WgmmaMajor::mn>(sum, weights[k / 16], wgmma_columns(right, RIGHT, k), true);
}

// The nearest 16-bit numbers of two f32, the first in the lower half.
template <WgmmaFormat FORMAT>
DEVICE uint32_t pack_pair(float low, float high) {
  if constexpr (FORMAT == WgmmaFormat::bf16) return bf16_pair(low, high);
#ifdef __CUDACC__
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return f32_to_f16(low) | f32_to_f16(high) << 16;
#endif
}

// Four threads that hold a word each of four chunks: the i-th of them gets all words of chunk i, in their order.
DEVICE uint4 gather_chunk(uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  const bool upper = threadIdx.x & 2, odd = threadIdx.x & 1;
  const uint32_t even_sent = __shfl_xor_sync(FULL_WARP, upper ? w0 : w2, 2);
  const uint32_t odd_sent = __shfl_xor_sync(FULL_WARP, upper ? w1 : w3, 2);
  const uint32_t even_own = upper ? w2 : w0, odd_own = upper ? w3 : w1;
  // Words of threads 0 and 1 ("first") or 2 and 3 of the chunk that is kept, and of the one that is passed on.
  const uint32_t own = odd ? odd_own : even_own, other = odd ? odd_sent : even_sent;
  const uint32_t own_sent = __shfl_xor_sync(FULL_WARP, odd ? even_own : odd_own, 1);
  const uint32_t other_sent = __shfl_xor_sync(FULL_WARP, odd ? even_sent : odd_sent, 1);
  const uint2 mine = odd ? make_uint2(own_sent, own) : make_uint2(own, own_sent);
  const uint2 theirs = odd ? make_uint2(other_sent, other) : make_uint2(other, other_sent);
  return upper ? make_uint4(theirs.x, theirs.y, mine.x, mine.y) : make_uint4(mine.x, mine.y, theirs.x, theirs.y);
}
