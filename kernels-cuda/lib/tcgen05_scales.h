// The scales of block-scaled operands on their way from rows in device memory, behind the quants, to where
// lib/tcgen05.h copies them from.
#pragma once
#include "kernel.h"

constexpr uint32_t SCALED_ROWS = 128;  // whose scales a warp brings

// Those of a stage, in words of four: of a, and of each 128 rows of b.
template <uint32_t WORDS, uint32_t ATOMS>
struct Scales {
  uint32_t words[ATOMS][WORDS][SCALED_ROWS];
};
template <uint32_t ATOMS>
struct Scales<0, ATOMS> {};

// A lane's part of a stage's: the words of rows `row`, `row` + 32... below `end`, zeros of others.
template <uint32_t WORDS>
struct RowScales {
  uint32_t word[4][WORDS];

  DEVICE void load(const uint32_t* scales, uint32_t row, uint32_t end, uint32_t row_words, uint32_t stage) {
#pragma unroll
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
      const uint32_t r = row + quarter * 32;
      const uint64_t at = static_cast<uint64_t>(r) * row_words + stage * WORDS;
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

  DEVICE void store(uint32_t (&to)[WORDS][SCALED_ROWS], uint32_t lane) const {
#pragma unroll
    for (uint32_t i = 0; i < WORDS; i++)
      reinterpret_cast<uint4*>(to[i])[lane] = make_uint4(word[0][i], word[1][i], word[2][i], word[3][i]);
  }
};
