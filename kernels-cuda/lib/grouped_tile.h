// Tiles of lib/mma_tile.h in products with a matrix for each group of rows.
#pragma once
#include "epilogue.h"
#include "groups.h"
#include "mma_tile.h"

// A block's tile: 64 rows of one expert by 64 columns, which multiply(groups, column, store) does. Blocks are as many
// as there may be tiles, whatever the offsets are: one without a tile has nothing to do, and rows of no expert become
// zero.
template <class Multiply>
DEVICE void grouped_tile(const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t experts,
                         uint32_t output_format, const Multiply& multiply) {
  const uint32_t across = (columns + MMA_TILE - 1) / MMA_TILE, column = blockIdx.x % across * MMA_TILE;
  Groups<MMA_TILE, true> groups(offsets, experts, rows);
  if (!groups.seek(blockIdx.x / across)) return;
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  if (groups.has_expert()) {
    multiply(groups, column, [&](uint32_t row, uint32_t c, float sum) { epilogue.store(row, c, sum); });
    return;
  }
  for (uint32_t i = threadIdx.x; i < MMA_TILE * MMA_TILE; i += MMA_THREADS) {
    const uint32_t row = groups.row + i / MMA_TILE, c = column + i % MMA_TILE;
    if (row < groups.end && c < columns) epilogue.store(row, c, 0.0f);
  }
}
