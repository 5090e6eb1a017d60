// The scales of a matrix in e4m3_128, which follow its quants row by row: a warp's part of those that a tile needs.
#pragma once
#include "kernel.h"

// Of `rows` rows of `blocks` blocks of 128.
struct BlockScales {
  static constexpr uint32_t BLOCK = 128;
  const float* data;
  uint32_t rows, blocks;
  DEVICE BlockScales(const void* matrix, uint32_t rows, uint32_t depth)
      : data(reinterpret_cast<const float*>(static_cast<const uint8_t*>(matrix) + static_cast<uint64_t>(rows) * depth)),
        rows(rows),
        blocks(depth / BLOCK) {}

  // A lane's four of 128 rows; zeros past the last.
  DEVICE void fetch(float (&scale)[4], uint32_t first_row, uint32_t block) const {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
      const uint32_t row = first_row + i * 32 + threadIdx.x % 32;
      scale[i] = row < rows ? data[static_cast<uint64_t>(row) * blocks + block] : 0.0f;
    }
  }
  DEVICE static void put(float* to, const float (&scale)[4]) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) to[i * 32 + threadIdx.x % 32] = scale[i];
  }
};
