// Pieces (lib/pieces.h) of products with a matrix for each group of rows. Blocks find theirs by going through the
// offsets, each for itself: nothing is known of the groups' sizes where the launch is made.
#pragma once
#include "groups.h"
#include "pieces.h"

// Tiles of one expert's rows of x and y, over all of k. w is a matrix of all experts' rows in memory, `w_rows` each. A
// tile's box of x may reach into the next expert's rows, and its box of w into the next expert's matrix: those products
// are not stored.
template <uint32_t COLUMNS, uint32_t ROWS = TILE_ROWS>
struct GroupedPieces {
  static constexpr bool RAGGED = false;
  Groups<ROWS, false> groups;
  uint32_t across, depth, w_rows;
  DEVICE GroupedPieces(const Product& of, const uint32_t* offsets, uint32_t experts, uint32_t w_rows)
      : groups(offsets, experts, of.rows),
        across((of.columns + COLUMNS - 1) / COLUMNS),
        depth(of.depth),
        w_rows(w_rows) {}
  DEVICE bool has(uint32_t i) { return groups.seek(i / across); }
  DEVICE Piece at(uint32_t i) const {
    const TilePlace tile(i - groups.before * across, groups.tiles(), across);
    const uint32_t row = groups.first + tile.row * ROWS;
    return {row, tile.column * COLUMNS, 0, 0, depth, groups.end, groups.expert() * w_rows};
  }
};

// Tiles of a matrix for each expert that has rows, summed over these: k are rows.
template <uint32_t COLUMNS>
struct GroupSums {
  static constexpr bool RAGGED = true;
  Groups<1u << 31, false> groups;  // whole ones
  uint32_t rows, down, across;
  DEVICE GroupSums(const Product& of, const uint32_t* offsets, uint32_t experts)
      : groups(offsets, experts, of.depth),
        rows(of.rows),
        down((of.rows + TILE_ROWS - 1) / TILE_ROWS),
        across((of.columns + COLUMNS - 1) / COLUMNS) {}
  DEVICE bool has(uint32_t i) { return groups.seek(i / (down * across)); }
  DEVICE Piece at(uint32_t i) const {
    const TilePlace tile(i % (down * across), down, across);
    return {tile.row * TILE_ROWS, tile.column * COLUMNS, groups.expert(), groups.first, groups.end, rows, 0};
  }
};
