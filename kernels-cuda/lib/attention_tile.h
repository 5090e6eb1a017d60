// What attention and both launches of its gradient share: who sees whom, and tiles of 64 queries by 64 keys of one
// head. A block has 256 threads; thread (16 i + j) has rows 4 i to 4 i + 3 and columns 4 j to 4 j + 3 of a product.
//
// Products run over stages in shared memory: 64 by 64 scores in steps of 32 dims of both operands, weighted sums in
// steps of 64 dims of one. Each stage is 16 KB from L2 for 131,072 (scores) or 262,144 multiply-adds, 1,024 or 2,048
// cycles of the 128 f32 lanes of a multiprocessor: at most 16 bytes a cycle of the 25 that L2 gives each of 132. So
// arithmetic limits: 67 TFLOP/s.
#pragma once
#include "kernel.h"
#include "softcap.h"

constexpr uint32_t ATTENTION_THREADS = 256, ATTENTION_ROWS = 64, STAGE_DIMS = 32, CHUNK_DIMS = 64;

// Document number of padding, and the log-sum-exp of a row that attends nothing (src/ops/attention_math.ts).
constexpr uint32_t PADDING = 0xffffffffu;
constexpr float MASKED = -3.0e38f;

// A tile of 64 rows as [dim][row], and one as [row][dim] or of weights. Rows are 4 floats longer than needed, which
// puts four rows 16 banks apart (see stage_columns).
using ColumnStage = float[STAGE_DIMS][ATTENTION_ROWS + 4];
using RowStage = float[ATTENTION_ROWS][CHUNK_DIMS + 4];

// Columns [first, first + dim) of the rows of a matrix.
struct HeadRows {
  const float* data;
  uint32_t width, first;
  DEVICE const float* row(uint32_t r) const { return data + static_cast<uint64_t>(r) * width + first; }
  DEVICE float4 load4(uint32_t r, uint32_t row_end, uint32_t d, uint32_t dim) const {
    return r < row_end && d < dim ? *reinterpret_cast<const float4*>(row(r) + d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
};

// The packed projection of a call and its masks.
struct Dense {
  const float* qkv;
  const uint32_t* documents;  // null: every row is of the same
  uint32_t heads, kv_heads, dim, sequence, causal, window;

  DEVICE uint32_t width() const { return (heads + 2 * kv_heads) * dim; }
  DEVICE uint32_t sharing() const { return heads / kv_heads; }  // query heads per key head
  DEVICE HeadRows query(uint32_t head) const { return {qkv, width(), head * dim}; }
  DEVICE HeadRows key(uint32_t kv_head) const { return {qkv, width(), (heads + kv_head) * dim}; }
  DEVICE HeadRows value(uint32_t kv_head) const { return {qkv, width(), (heads + kv_heads + kv_head) * dim}; }

  DEVICE uint32_t document(uint32_t row) const { return documents != nullptr ? documents[row] : 0; }
  DEVICE bool visible(uint32_t query, uint32_t key, uint32_t query_document, uint32_t key_document) const {
    return (!causal || key <= query) && (window == 0 || key + window > query) && query_document == key_document &&
           query_document != PADDING;
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

DEVICE uint32_t tile_row() { return threadIdx.x / 16 * 4; }
DEVICE uint32_t tile_column() { return threadIdx.x % 16 * 4; }

// A warp takes 32 bytes each of 16 rows: whole sectors of memory, and stores into 32 different banks.
DEVICE void stage_columns(ColumnStage& stage, const HeadRows& source, uint32_t first, uint32_t row_end, uint32_t d_first,
                          uint32_t dim) {
#pragma unroll
  for (uint32_t i = threadIdx.x; i < ATTENTION_ROWS * STAGE_DIMS / 4; i += ATTENTION_THREADS) {
    const uint32_t r = i / 2 % ATTENTION_ROWS, d = i / (2 * ATTENTION_ROWS) * 8 + i % 2 * 4;
    const float4 v = source.load4(first + r, row_end, d_first + d, dim);
    stage[d][r] = v.x;
    stage[d + 1][r] = v.y;
    stage[d + 2][r] = v.z;
    stage[d + 3][r] = v.w;
  }
}

DEVICE void stage_rows(RowStage& stage, const HeadRows& source, uint32_t first, uint32_t row_end, uint32_t d_first,
                       uint32_t dim) {
#pragma unroll
  for (uint32_t i = threadIdx.x; i < ATTENTION_ROWS * CHUNK_DIMS / 4; i += ATTENTION_THREADS) {
    const uint32_t r = i / (CHUNK_DIMS / 4), d = i % (CHUNK_DIMS / 4) * 4;
    *reinterpret_cast<float4*>(&stage[r][d]) = source.load4(first + r, row_end, d_first + d, dim);
  }
}

// sum[i][j] += left[i] right[j].
DEVICE void outer_product(float (&sum)[4][4], float4 left, float4 right) {
  const float l[4] = {left.x, left.y, left.z, left.w}, r[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) sum[i][j] += l[i] * r[j];
}

// dots[i][j] = row (a_first + i) of a times row (b_first + j) of b; rows from their ends on count as zeros.
DEVICE void tile_dots(float (&dots)[4][4], ColumnStage (&stage)[2], const HeadRows& a, uint32_t a_first, uint32_t a_end,
                      const HeadRows& b, uint32_t b_first, uint32_t b_end, uint32_t dim) {
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) dots[i][j] = 0.0f;
  for (uint32_t d = 0; d < dim; d += STAGE_DIMS) {
    __syncthreads();  // until here the stage before may still be read
    stage_columns(stage[0], a, a_first, a_end, d, dim);
    stage_columns(stage[1], b, b_first, b_end, d, dim);
    __syncthreads();
#pragma unroll 4
    for (uint32_t dd = 0; dd < STAGE_DIMS; dd++)
      outer_product(dots, *reinterpret_cast<const float4*>(&stage[0][dd][tile_row()]),
                    *reinterpret_cast<const float4*>(&stage[1][dd][tile_column()]));
  }
}

// Leaves w[i][j], of this thread's row i and column j, in shared memory as [column][row].
DEVICE void put_weights(RowStage& weights, const float (&w)[4][4]) {
#pragma unroll
  for (uint32_t j = 0; j < 4; j++)
    *reinterpret_cast<float4*>(&weights[tile_column() + j][tile_row()]) =
      make_float4(w[0][j], w[1][j], w[2][j], w[3][j]);
}

// sum[c][i][j] += over the columns u of the weights: weights[u][row i] times dim (64 c + column j) of source row u.
template <uint32_t CHUNKS>
DEVICE void add_weighted(float (&sum)[CHUNKS][4][4], const RowStage& weights, RowStage& stage, const HeadRows& source,
                         uint32_t first, uint32_t row_end, uint32_t dim) {
#pragma unroll
  for (uint32_t c = 0; c < CHUNKS; c++) {
    if (c * CHUNK_DIMS >= dim) break;
    __syncthreads();  // weights are put; until here the stage before may still be read
    stage_rows(stage, source, first, row_end, c * CHUNK_DIMS, dim);
    __syncthreads();
#pragma unroll 4
    for (uint32_t u = 0; u < ATTENTION_ROWS; u++)
      outer_product(sum[c], *reinterpret_cast<const float4*>(&weights[u][tile_row()]),
                    *reinterpret_cast<const float4*>(&stage[u][tile_column()]));
  }
}

// Both uses of the one stage of a block.
union Stage {
  ColumnStage columns[2];
  RowStage rows;
};

// Stores factor[i] sum[.][i][.] as rows first + row i of `out`.
template <uint32_t CHUNKS>
DEVICE void store_rows(float* out, uint32_t width, uint32_t column, const float (&sum)[CHUNKS][4][4],
                       const float (&factor)[4], uint32_t first, uint32_t row_end, uint32_t dim) {
#pragma unroll
  for (uint32_t c = 0; c < CHUNKS; c++) {
    const uint32_t d = c * CHUNK_DIMS + tile_column();
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
      const uint32_t r = first + tile_row() + i;
      if (r < row_end && d < dim)
        *reinterpret_cast<float4*>(out + static_cast<uint64_t>(r) * width + column + d) =
          make_float4(factor[i] * sum[c][i][0], factor[i] * sum[c][i][1], factor[i] * sum[c][i][2],
                      factor[i] * sum[c][i][3]);
    }
  }
}
