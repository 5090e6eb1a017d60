// Gradient of attention: p = exp(s - lse), ds = p (dy.v - delta) cap' scale with delta = dy.y; dq = sum_u ds k,
// dk = sum_t ds q and dv = sum_t p dy. The first launch has a thread block per 64 queries of a head and leaves dq and
// delta, the second one per 64 keys of a key head and leaves dk and dv: no sum is split between threads of different
// blocks, so all have a fixed order. Kernels differ in the head sizes their sums have registers for.
//
// Per query and key: 6 D flops in the first launch, 8 D in the second. 4,096 causal rows of 32 heads and 8 key heads
// of 128 dims: 481 GFLOP, 7.2 ms at 67 TFLOP/s; memory once 0.5 GB, 0.1 ms at 4.8 TB/s. Arithmetic limits; see
// lib/attention_tile.h.
#include "lib/attention_tile.h"

// The gradient of a score: s is the capped score, p its probability, dp = dy.v - delta.
DEVICE float score_gradient(float s, float p, float dp, float scale, float softcap) {
  return p * dp * softcap_slope(s, softcap) * scale;
}

template <class Storage, uint32_t CHUNKS>
DEVICE void backward_query(const Dense<Storage>& call, const void* dy, const void* y, const float* lse, void* dqkv,
                           float* delta, float scale, float softcap, uint32_t out_bits) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  // The last queries see the most keys, if only those before.
  const BlockRows rows = BlockRows::of_grid(call.sequence, call.heads, true);
  const KeyRange keys(call, rows);
  const uint32_t kv_head = rows.head / call.sharing(), row_end = rows.last + 1;
  const HeadRows<Storage> q = call.query(rows.head), k = call.key(kv_head), v = call.value(kv_head);
  const HeadRows<Storage> g = {dy, call.heads * call.dim, rows.head * call.dim}, o = {y, g.width, g.first};

  uint32_t own[4];
  float log_sum[4], shift[4];
  Sums<CHUNKS> sum = {};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t t = rows.clamp(rows.first + tile_row() + i);
    const uint64_t at = static_cast<uint64_t>(t) * call.heads + rows.head;
    own[i] = call.document(t);
    log_sum[i] = lse[at];
    float dot = 0.0f;
    for (uint32_t d = tile_column(); d < call.dim; d += CHUNK_DIMS) {
      const float4 a = g.load4(t, row_end, d, call.dim), b = o.load4(t, row_end, d, call.dim);
      dot += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
    }
    shift[i] = row_sum16(dot);
    if (tile_column() == 0 && rows.first + tile_row() + i < row_end) delta[at] = shift[i];
  }
  for (uint32_t key = keys.begin; key < keys.end; key += TILE_ROWS) {
    Scores s, ds;
    tile_dots(s, stage, q, rows.first, row_end, k, key, keys.end, call.dim);
    tile_dots(ds, stage, g, rows.first, row_end, v, key, keys.end, call.dim);
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
      const uint32_t u = key + tile_column() + j;
      const uint32_t other = call.document(u < keys.end ? u : keys.end - 1);
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const float capped = softcap_value(scale * s[i][j], softcap);
        const bool seen = u < keys.end && call.visible(rows.first + tile_row() + i, u, own[i], other);
        const float p = seen ? expf(capped - log_sum[i]) : 0.0f;
        ds[i][j] = score_gradient(capped, p, ds[i][j] - shift[i], scale, softcap);
      }
    }
    put_weights(weights, ds);
    add_weighted(sum, weights, stage, k, key, keys.end, call.dim);
  }
  store_rows<Storage>(dqkv, out_bits, call.width(), q.first, sum, rows.first, row_end, call.dim);
}

template <class Storage, uint32_t CHUNKS>
DEVICE void backward_key(const Dense<Storage>& call, const void* dy, const float* lse, const float* delta, void* dqkv,
                         float scale, float softcap, uint32_t out_bits) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  const BlockRows rows = BlockRows::of_grid(call.sequence, call.kv_heads, false);
  const uint32_t row_end = rows.last + 1;
  const HeadRows<Storage> k = call.key(rows.head), v = call.value(rows.head);

  Sums<CHUNKS> dk = {}, dv = {};
  const uint32_t query_first = call.causal ? rows.first : rows.start;
  const uint32_t query_end =
    call.window > 0 && call.window < rows.end - rows.last ? rows.last + call.window : rows.end;
  for (uint32_t head = rows.head * call.sharing(); head < (rows.head + 1) * call.sharing(); head++) {
    const HeadRows<Storage> q = call.query(head), g = {dy, call.heads * call.dim, head * call.dim};
    for (uint32_t query = query_first; query < query_end; query += TILE_ROWS) {
      // Bit 4 i + j: whether row i is seen by column j. One register, where documents would take eight.
      uint32_t seen = 0;
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        const uint32_t t = query + tile_column() + j;
        const uint32_t other = call.document(t < query_end ? t : query_end - 1);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
          const uint32_t u = rows.clamp(rows.first + tile_row() + i);
          seen |= (t < query_end && call.visible(t, u, other, call.document(u)) ? 1u : 0u) << (4 * i + j);
        }
      }
      Scores p, ds;
      tile_dots(p, stage, k, rows.first, row_end, q, query, query_end, call.dim);
      tile_dots(ds, stage, v, rows.first, row_end, g, query, query_end, call.dim);
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        const uint32_t t = query + tile_column() + j;
        const uint64_t at = static_cast<uint64_t>(t < query_end ? t : query_end - 1) * call.heads + head;
        const float log_sum = lse[at], shift = delta[at];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
          const float capped = softcap_value(scale * p[i][j], softcap);
          // Rows past the last key have sums too, which are not stored.
          p[i][j] = seen >> (4 * i + j) & 1 ? expf(capped - log_sum) : 0.0f;
          ds[i][j] = score_gradient(capped, p[i][j], ds[i][j] - shift, scale, softcap);
        }
      }
      put_weights(weights, p);
      add_weighted(dv, weights, stage, g, query, query_end, call.dim);
      __syncthreads();  // until here the weights are read
      put_weights(weights, ds);
      add_weighted(dk, weights, stage, q, query, query_end, call.dim);
    }
  }
  store_rows<Storage>(dqkv, out_bits, call.width(), k.first, dk, rows.first, row_end, call.dim);
  store_rows<Storage>(dqkv, out_bits, call.width(), v.first, dv, rows.first, row_end, call.dim);
}

KERNEL(attention_backward_query_128_f32, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<F32, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_128_f32, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<F32, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}

KERNEL(attention_backward_query_256_f32, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<F32, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_256_f32, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<F32, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}

KERNEL(attention_backward_query_128_f16, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<F16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_128_f16, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<F16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}

KERNEL(attention_backward_query_256_f16, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<F16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_256_f16, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<F16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}

KERNEL(attention_backward_query_128_bf16, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<BF16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_128_bf16, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<BF16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}

KERNEL(attention_backward_query_256_bf16, 256, const void* dy, const void* qkv, const void* y, const float* lse,
       OPTIONAL const uint32_t* documents, void* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_query<BF16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta,
                         scale, softcap, out_bits);
}

KERNEL(attention_backward_key_256_bf16, 256, const void* dy, const void* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap, uint32_t out_bits) {
  backward_key<BF16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                       softcap, out_bits);
}
