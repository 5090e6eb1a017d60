// How a persistent matmul goes through its work: pieces, which are tiles of y over a range of k.
#pragma once
#include "ring.h"

constexpr uint32_t TILE_ROWS = 128;
// Rows of tiles that come down first.
constexpr uint32_t GROUP = 16;

struct Product {
  uint32_t rows, columns, depth, splits, split_depth;
};

// What a cluster does at a time: a tile of y, or neighbours in columns, over a range of k. y may be several matrices of
// a product's `rows`, the sums of ranges or of groups, of which this is in number `matrix`. Its rows from `row_end` on
// are another's. The rows of b in memory that are this one's begin at `b_first`.
struct Piece {
  uint32_t row, column, matrix, k_first, k_end, row_end, b_first;
};

// Place i in a matrix of tiles: GROUP rows of tiles come down first, so that those that run together share rows of both
// operands in L2.
struct TilePlace {
  uint32_t row, column;
  DEVICE TilePlace(uint32_t i, uint32_t down, uint32_t across) {
    const uint32_t above = i / (GROUP * across) * GROUP, height = min(GROUP, down - above), within = i - above * across;
    row = above + within % height;
    column = within / height;
  }
};

// Pieces by their numbers. Where they are RAGGED, behind a piece's last k come those of others; else there is nothing.
template <uint32_t COLUMNS, uint32_t ROWS = TILE_ROWS>
struct Pieces {
  static constexpr bool RAGGED = false;
  const Product& of;
  uint32_t down, across;
  DEVICE explicit Pieces(const Product& product)
      : of(product),
        down((product.rows + ROWS - 1) / ROWS),
        across((product.columns + COLUMNS - 1) / COLUMNS) {}
  DEVICE uint32_t count() const { return down * across * of.splits; }
  DEVICE bool has(uint32_t i) const { return i < count(); }
  DEVICE Piece at(uint32_t i) const {
    const uint32_t split = i % of.splits, first = split * of.split_depth;
    const TilePlace tile(i / of.splits, down, across);
    return {tile.row * ROWS, tile.column * COLUMNS, split, first, min(of.depth, first + of.split_depth), of.rows, 0};
  }
};
