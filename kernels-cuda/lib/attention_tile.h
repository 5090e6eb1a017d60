// What attention and both launches of its gradient share: who sees whom, and tiles of 64 queries by 64 keys of one
// head.
//
// Products run over stages in shared memory: 64 by 64 scores in steps of 32 dims of both operands, weighted sums in
// steps of 64 dims of one. Each stage is 16 KB from L2 for 131,072 (scores) or 262,144 multiply-adds, 1,024 or 2,048
// cycles of the 128 f32 lanes of a multiprocessor: at most 16 bytes a cycle of the 25 that L2 gives each of 132. For
// 16 multiply-adds a lane, a warp reads 288 different bytes of shared memory: 12 of 16 cycles with four warps at it.
// So arithmetic limits, 67 TFLOP/s, with little to spare.
#pragma once
#include "softcap.h"
#include "storage.h"

constexpr uint32_t ATTENTION_THREADS = 256, TILE_ROWS = 64, STAGE_DIMS = 32, CHUNK_DIMS = 64;

// Document number of padding, and the log-sum-exp of a row that attends nothing (src/ops/attention_math.ts).
constexpr uint32_t PADDING = 0xffffffffu;
constexpr float MASKED = -3.0e38f;

// A tile of 64 rows as [dim][row], and one as [row][dim] or of weights. Rows are 4 floats longer than needed, which
// puts four rows 16 banks apart (see stage_columns).
using ColumnStage = float[STAGE_DIMS][TILE_ROWS + 4];
using RowStage = float[TILE_ROWS][CHUNK_DIMS + 4];

// Columns [first, first + dim) of the rows of a matrix.
template <class Storage>
struct HeadRows {
  const void* data;
  uint32_t width, first;
  DEVICE float4 load4(uint32_t r, uint32_t row_end, uint32_t d, uint32_t dim) const {
    if (r >= row_end || d >= dim) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return Storage::load4(data, 0, static_cast<uint64_t>(r) * width + first + d);
  }
};

// The packed projection of a call and its masks.
template <class Storage>
struct Dense {
  const void* qkv;
  const uint32_t* documents;  // null: every row is of the same
  uint32_t heads, kv_heads, dim, sequence, causal, window;

  DEVICE uint32_t width() const { return (heads + 2 * kv_heads) * dim; }
  DEVICE uint32_t sharing() const { return heads / kv_heads; }  // query heads per key head
  DEVICE HeadRows<Storage> query(uint32_t head) const { return {qkv, width(), head * dim}; }
  DEVICE HeadRows<Storage> key(uint32_t kv_head) const { return {qkv, width(), (heads + kv_head) * dim}; }
  DEVICE HeadRows<Storage> value(uint32_t kv_head) const { return {qkv, width(), (heads + kv_heads + kv_head) * dim}; }

  DEVICE uint32_t document(uint32_t row) const { return documents != nullptr ? documents[row] : 0; }
  DEVICE bool visible(uint32_t query, uint32_t key, uint32_t query_document, uint32_t key_document) const {
    return (!causal || key <= query) && (window == 0 || query < window || key > query - window) &&
           query_document == key_document && query_document != PADDING;
  }
};

// Sum, or maximum, over the 16 threads that share rows; each of them gets it.
DEVICE float row_sum16(float x) {
  for (uint32_t step = 8; step > 0; step /= 2) x += __shfl_xor_sync(FULL_WARP, x, step);
  return x;
}
DEVICE float row_max16(float x) {
  for (uint32_t step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, step));
  return x;
}

// Both uses of the one stage of a block.
union Stage {
  ColumnStage columns[2];
  RowStage rows;
};

// Scores of a thread, or weights, and its part of 64 rows of heads of up to 64 CHUNKS dims: rows tile_row() to + 3,
// columns tile_column() to + 3 of each 64.
using Scores = float[4][4];
template <uint32_t CHUNKS>
using Sums = float[CHUNKS][4][4];

DEVICE uint32_t tile_row() { return threadIdx.x / 16 * 4; }
DEVICE uint32_t tile_column() { return threadIdx.x % 16 * 4; }

// A warp takes 32 bytes each of 16 rows: whole sectors of memory, and stores into 32 different banks.
template <class Storage>
DEVICE void stage_columns(ColumnStage& stage, const HeadRows<Storage>& source, uint32_t first, uint32_t row_end,
                          uint32_t d_first, uint32_t dim) {
#pragma unroll
  for (uint32_t step = 0; step < TILE_ROWS * STAGE_DIMS / 4 / ATTENTION_THREADS; step++) {
    const uint32_t i = step * ATTENTION_THREADS + threadIdx.x;
    const uint32_t r = i / 2 % TILE_ROWS, d = i / (2 * TILE_ROWS) * 8 + i % 2 * 4;
    const float4 v = source.load4(first + r, row_end, d_first + d, dim);
    stage[d][r] = v.x;
    stage[d + 1][r] = v.y;
    stage[d + 2][r] = v.z;
    stage[d + 3][r] = v.w;
  }
}

template <class Storage>
DEVICE void stage_rows(RowStage& stage, const HeadRows<Storage>& source, uint32_t first, uint32_t row_end,
                       uint32_t d_first, uint32_t dim) {
  // Loads of as many numbers at once as there are registers for: those of 16 bits are held as loaded and as f32.
#pragma unroll(Storage::BYTES)
  for (uint32_t step = 0; step < TILE_ROWS * CHUNK_DIMS / 4 / ATTENTION_THREADS; step++) {
    const uint32_t i = step * ATTENTION_THREADS + threadIdx.x, r = i / (CHUNK_DIMS / 4), d = i % (CHUNK_DIMS / 4) * 4;
    *reinterpret_cast<float4*>(&stage[r][d]) = source.load4(first + r, row_end, d_first + d, dim);
  }
}

// sum[i][j] += left[row i] right[column j].
DEVICE void outer_product(Scores& sum, const float* left, const float* right) {
  const float4 l4 = *reinterpret_cast<const float4*>(left + tile_row());
  const float4 r4 = *reinterpret_cast<const float4*>(right + tile_column());
  const float l[4] = {l4.x, l4.y, l4.z, l4.w}, r[4] = {r4.x, r4.y, r4.z, r4.w};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) sum[i][j] += l[i] * r[j];
}

// dots[i][j] = row (a_first + row i) of a times row (b_first + column j) of b; rows from their ends on are zeros.
template <class Storage>
DEVICE void tile_dots(Scores& dots, Stage& stage, const HeadRows<Storage>& a, uint32_t a_first, uint32_t a_end,
                      const HeadRows<Storage>& b, uint32_t b_first, uint32_t b_end, uint32_t dim) {
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) dots[i][j] = 0.0f;
  for (uint32_t d = 0; d < dim; d += STAGE_DIMS) {
    __syncthreads();  // until here the stage before may still be read
    stage_columns(stage.columns[0], a, a_first, a_end, d, dim);
    stage_columns(stage.columns[1], b, b_first, b_end, d, dim);
    __syncthreads();
#pragma unroll 2
    for (uint32_t dd = 0; dd < STAGE_DIMS; dd++) outer_product(dots, stage.columns[0][dd], stage.columns[1][dd]);
  }
}

// Leaves w[i][j], of row i and column j, in shared memory as [column][row].
DEVICE void put_weights(RowStage& weights, const Scores& w) {
#pragma unroll
  for (uint32_t j = 0; j < 4; j++)
    *reinterpret_cast<float4*>(&weights[tile_column() + j][tile_row()]) =
      make_float4(w[0][j], w[1][j], w[2][j], w[3][j]);
}

// sum[c][i][j] += over the columns u of the weights: weights[u][row i] times dim (64 c + column j) of source row u.
template <class Storage, uint32_t CHUNKS>
DEVICE void add_weighted(Sums<CHUNKS>& sum, const RowStage& weights, Stage& stage, const HeadRows<Storage>& source,
                         uint32_t first, uint32_t row_end, uint32_t dim) {
#pragma unroll
  for (uint32_t c = 0; c < CHUNKS; c++) {
    if (c * CHUNK_DIMS >= dim) break;
    __syncthreads();  // weights are put; until here the stage before may still be read
    stage_rows(stage.rows, source, first, row_end, c * CHUNK_DIMS, dim);
    __syncthreads();
#pragma unroll 2
    for (uint32_t u = 0; u < TILE_ROWS; u++) outer_product(sum[c], weights[u], stage.rows[u]);
  }
}

// Stores sum[.][i][.] as rows first + row i of `out`, whose numbers have `out_bits`: 32, or 16 of `Storage`.
template <class Storage, uint32_t CHUNKS>
DEVICE void store_rows(void* out, uint32_t out_bits, uint32_t width, uint32_t out_column, const Sums<CHUNKS>& sum,
                       uint32_t first, uint32_t row_end, uint32_t dim) {
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t r = first + tile_row() + i;
    if (r >= row_end) continue;
    const uint64_t at = static_cast<uint64_t>(r) * width + out_column;
#pragma unroll
    for (uint32_t c = 0; c < CHUNKS; c++) {
      const uint32_t d = c * CHUNK_DIMS + tile_column();
      if (d >= dim) continue;
      const float4 v = make_float4(sum[c][i][0], sum[c][i][1], sum[c][i][2], sum[c][i][3]);
      if (out_bits == 32)
        F32::store4(out, at + d, v);
      else
        Storage::store4(out, at + d, v);
    }
  }
}

// What a block has at a time: rows, from `first` to `last`, of a block of the call and one of its heads.
struct BlockRows {
  uint32_t start, end;  // of the call's block
  uint32_t first, last, head;

  // Tile `tile` of `height` rows of a unit: of `heads` heads of each block of the call, one after the other.
  DEVICE BlockRows(uint32_t sequence, uint32_t heads, uint32_t unit, uint32_t tile, uint32_t height)
      : start(unit / heads * sequence),
        end(start + sequence),
        first(start + tile * height),
        last(min(end, first + height) - 1),
        head(unit % heads) {}

  // Where the grid has a block for each tile; with `backwards` the last rows come first.
  DEVICE static BlockRows of_grid(uint32_t sequence, uint32_t heads, bool backwards) {
    const uint32_t tiles = (sequence + TILE_ROWS - 1) / TILE_ROWS, tile = blockIdx.x % tiles;
    return {sequence, heads, blockIdx.x / tiles, backwards ? tiles - 1 - tile : tile, TILE_ROWS};
  }
  DEVICE uint32_t clamp(uint32_t row) const { return row <= last ? row : last; }
};

// Keys that the queries of a block may see, from begin to end.
struct KeyRange {
  uint32_t begin, end;
  template <class Storage>
  DEVICE KeyRange(const Dense<Storage>& call, const BlockRows& rows)
      : begin(call.window > 0 && rows.first - rows.start >= call.window ? rows.first + 1 - call.window : rows.start),
        end(call.causal ? rows.last + 1 : rows.end) {}
};
