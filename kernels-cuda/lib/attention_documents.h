// Which document numbers rows have: what tells tiles apart that have no pair of query and key in common.
#pragma once
#include "attention_tile.h"

// Range of the document numbers of some rows; empty where all are padding.
struct DocumentRange {
  uint32_t low, high;
  bool padding;
  DEVICE bool meets(const DocumentRange& other) const { return low <= other.high && other.low <= high; }
  DEVICE bool one() const { return low == high && !padding; }
};

// By a warp; rows [first, past), at least one.
template <class Storage>
DEVICE DocumentRange documents_of(const Dense<Storage>& call, uint32_t first, uint32_t past) {
  if (call.documents == nullptr) return {0, 0, false};
  DocumentRange range = {PADDING, 0, false};
  for (uint32_t row = first + threadIdx.x % 32; row < past; row += 32) {
    const uint32_t document = call.documents[row];
    if (document == PADDING) {
      range.padding = true;
    } else {
      range.low = min(range.low, document);
      range.high = max(range.high, document);
    }
  }
#pragma unroll
  for (uint32_t step = 16; step > 0; step /= 2) {
    range.low = min(range.low, __shfl_xor_sync(FULL_WARP, range.low, step));
    range.high = max(range.high, __shfl_xor_sync(FULL_WARP, range.high, step));
  }
  range.padding = __any_sync(FULL_WARP, range.padding);
  return range;
}
