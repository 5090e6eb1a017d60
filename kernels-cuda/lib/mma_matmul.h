// A whole product on the tiles of lib/mma_tile.h, with what follows its sums.
#pragma once
#include "epilogue.h"
#include "mma_tile.h"

// y[r,c] = sum over k of b(c,k) a(r,k): a has y's rows, b its columns. The reduction over `depth` is cut into
// `splits` ranges of `split_depth` where the tiles alone would leave multiprocessors idle: then y is [splits, rows,
// columns] for matmul_join. Blocks that run together share a tile of b, so that L2 serves all but the first read.
template <class B, class A>
DEVICE void matmul_mma(const B& b, const A& a, const Epilogue& epilogue, uint32_t depth, uint32_t splits,
                       uint32_t split_depth) {
  const uint32_t rows = a.end(), across = (rows + MMA_TILE - 1) / MMA_TILE;
  const uint32_t split = blockIdx.x % splits, tile = blockIdx.x / splits;
  const uint32_t first = split * split_depth, end = depth - first < split_depth ? depth : first + split_depth;
  mma_product(b, a, tile / across * MMA_TILE, tile % across * MMA_TILE, first, end,
              [&](uint32_t column, uint32_t row, float sum) {
                epilogue.store(static_cast<uint64_t>(split) * rows + row, column, sum);
              });
}
