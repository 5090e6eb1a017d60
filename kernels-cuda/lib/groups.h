// Rows of a matrix in groups whose sizes only the device knows: tiles of at most `TILE` rows, each within one group.
#pragma once
#include "kernel.h"

// Goes through tiles in order. Group 0 are the rows before the first offset, group e + 1 those of expert e, the last one
// those behind all. An offset below one before it counts as that one, one past `rows` as that: groups never overlap.
// Without ALL only experts have tiles.
template <uint32_t TILE, bool ALL>
struct Groups {
  const uint32_t* offsets;  // of experts + 1
  uint32_t experts, rows;
  uint32_t group = 0, before = 0;  // tiles of the groups before
  uint32_t first = 0, end;         // rows of this one
  uint32_t row = 0;                // where the tile begins

  DEVICE Groups(const uint32_t* offsets, uint32_t experts, uint32_t rows)
      : offsets(offsets), experts(experts), rows(rows), end(min(offsets[0], rows)) {}

  DEVICE bool has_expert() const { return group > 0 && group <= experts; }
  DEVICE uint32_t expert() const { return group - 1; }
  DEVICE uint32_t tiles() const { return ALL || has_expert() ? (end - first + TILE - 1) / TILE : 0; }

  // Goes on to the i-th tile of all; false where there are fewer.
  DEVICE bool seek(uint32_t i) {
    while (i >= before + tiles()) {
      if (group > experts) return false;
      before += tiles();
      group++;
      first = end;
      end = max(end, group > experts ? rows : min(offsets[group], rows));
    }
    row = first + (i - before) * TILE;
    return true;
  }
};
