// Gradient of attention: p = exp(s - lse), ds = p (dy.v - delta) cap' scale with delta = dy.y; dq = sum_u ds k,
// dk = sum_t ds q and dv = sum_t p dy. The first launch has a block per 64 queries of a head and leaves dq and delta,
// the second one per 64 keys of a key head and leaves dk and dv: nothing is added to memory twice, so sums have a fixed
// order. Kernels differ in the head sizes their sums have registers for.
//
// Per query and key: 6 D flops in the first launch, 8 D in the second. 4,096 causal rows of 32 heads of 64 dims: 240
// GFLOP, 3.6 ms at 67 TFLOP/s; memory once 270 MB, 56 us at 4.8 TB/s. Arithmetic limits; see lib/attention_tile.h.
#include "lib/attention_tile.h"

// The gradient of a score: s is the capped score, p its probability, dp = dy.v - delta.
DEVICE float score_gradient(float s, float p, float dp, float scale, float softcap) {
  return p * dp * softcap_slope(s, softcap) * scale;
}

template <uint32_t CHUNKS>
DEVICE void backward_query(const Dense& call, const float* dy, const float* y, const float* lse, float* dqkv,
                           float* delta, float scale, float softcap) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  const uint32_t tiles = (call.sequence + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
  // The last queries of a block see the most keys: they start first.
  const uint32_t tile = tiles - 1 - blockIdx.x % tiles, head = blockIdx.x / tiles % call.heads;
  const uint32_t start = blockIdx.x / tiles / call.heads * call.sequence, end = start + call.sequence;
  const uint32_t first = start + tile * ATTENTION_ROWS;
  const uint32_t last = (end < first + ATTENTION_ROWS ? end : first + ATTENTION_ROWS) - 1;
  const HeadRows q = call.query(head), k = call.key(head / call.sharing()), v = call.value(head / call.sharing());
  const HeadRows g = {dy, call.heads * call.dim, head * call.dim}, o = {y, call.heads * call.dim, head * call.dim};

  uint32_t own[4];
  float log_sum[4], shift[4], sum[CHUNKS][4][4] = {};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t t = first + tile_row() + i <= last ? first + tile_row() + i : last;
    const uint64_t at = static_cast<uint64_t>(t) * call.heads + head;
    own[i] = call.document(t);
    log_sum[i] = lse[at];
    float dot = 0.0f;
    for (uint32_t d = tile_column(); d < call.dim; d += CHUNK_DIMS) {
      const float4 a = g.load4(t, end, d, call.dim), b = o.load4(t, end, d, call.dim);
      dot += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
    }
    shift[i] = row_sum16(dot);
    if (tile_column() == 0 && first + tile_row() + i <= last) delta[at] = shift[i];
  }
  const uint32_t key_first = call.window > 0 && first + 1 > start + call.window ? first + 1 - call.window : start;
  const uint32_t key_end = call.causal ? last + 1 : end;
  for (uint32_t key = key_first; key < key_end; key += ATTENTION_ROWS) {
    float s[4][4], ds[4][4];
    tile_dots(s, stage.columns, q, first, last + 1, k, key, key_end, call.dim);
    tile_dots(ds, stage.columns, g, first, last + 1, v, key, key_end, call.dim);
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
      const uint32_t u = key + tile_column() + j;
      const uint32_t other = call.document(u < key_end ? u : key_end - 1);
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const float capped = softcap_value(scale * s[i][j], softcap);
        const bool seen = u < key_end && call.visible(first + tile_row() + i, u, own[i], other);
        const float p = seen ? expf(capped - log_sum[i]) : 0.0f;
        ds[i][j] = score_gradient(capped, p, ds[i][j] - shift[i], scale, softcap);
      }
    }
    put_weights(weights, ds);
    add_weighted(sum, weights, stage.rows, k, key, key_end, call.dim);
  }
  const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  store_rows(dqkv, call.width(), q.first, sum, one, first, last + 1, call.dim);
}

template <uint32_t CHUNKS>
DEVICE void backward_key(const Dense& call, const float* dy, const float* lse, const float* delta, float* dqkv,
                         float scale, float softcap) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  const uint32_t tiles = (call.sequence + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
  const uint32_t tile = blockIdx.x % tiles, kv_head = blockIdx.x / tiles % call.kv_heads;
  const uint32_t start = blockIdx.x / tiles / call.kv_heads * call.sequence, end = start + call.sequence;
  const uint32_t first = start + tile * ATTENTION_ROWS;
  const uint32_t last = (end < first + ATTENTION_ROWS ? end : first + ATTENTION_ROWS) - 1;
  const HeadRows k = call.key(kv_head), v = call.value(kv_head);

  uint32_t own[4];
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
    own[i] = call.document(first + tile_row() + i <= last ? first + tile_row() + i : last);
  float dk[CHUNKS][4][4] = {}, dv[CHUNKS][4][4] = {};
  const uint32_t query_first = call.causal ? first : start;
  const uint32_t query_end = call.window > 0 && call.window < end - last ? last + call.window : end;
  for (uint32_t head = kv_head * call.sharing(); head < (kv_head + 1) * call.sharing(); head++) {
    const HeadRows q = call.query(head), g = {dy, call.heads * call.dim, head * call.dim};
    for (uint32_t query = query_first; query < query_end; query += ATTENTION_ROWS) {
      float p[4][4], ds[4][4];
      tile_dots(p, stage.columns, k, first, last + 1, q, query, query_end, call.dim);
      tile_dots(ds, stage.columns, v, first, last + 1, g, query, query_end, call.dim);
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        const uint32_t t = query + tile_column() + j, row = t < query_end ? t : query_end - 1;
        const uint64_t at = static_cast<uint64_t>(row) * call.heads + head;
        const uint32_t other = call.document(row);
        const float log_sum = lse[at], shift = delta[at];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
          const float capped = softcap_value(scale * p[i][j], softcap);
          // Keys past the end have sums too, which are not stored.
          const bool seen = t < query_end && call.visible(t, first + tile_row() + i, other, own[i]);
          p[i][j] = seen ? expf(capped - log_sum) : 0.0f;
          ds[i][j] = score_gradient(capped, p[i][j], ds[i][j] - shift, scale, softcap);
        }
      }
      put_weights(weights, p);
      add_weighted(dv, weights, stage.rows, g, query, query_end, call.dim);
      __syncthreads();  // until here the weights are read
      put_weights(weights, ds);
      add_weighted(dk, weights, stage.rows, q, query, query_end, call.dim);
    }
  }
  const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  store_rows(dqkv, call.width(), k.first, dk, one, first, last + 1, call.dim);
  store_rows(dqkv, call.width(), v.first, dv, one, first, last + 1, call.dim);
}

KERNEL(attention_backward_query_64, 256, const float* dy, const float* qkv, const float* y, const float* lse,
       OPTIONAL const uint32_t* documents, float* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap) {
  backward_query<1>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta, scale,
                    softcap);
}

KERNEL(attention_backward_query_256, 256, const float* dy, const float* qkv, const float* y, const float* lse,
       OPTIONAL const uint32_t* documents, float* dqkv, float* delta, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap) {
  backward_query<4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, y, lse, dqkv, delta, scale,
                    softcap);
}

KERNEL(attention_backward_key_64, 256, const float* dy, const float* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, float* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap) {
  backward_key<1>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                  softcap);
}

KERNEL(attention_backward_key_256, 256, const float* dy, const float* qkv, const float* lse, const float* delta,
       OPTIONAL const uint32_t* documents, float* dqkv, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap) {
  backward_key<4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, dy, lse, delta, dqkv, scale,
                  softcap);
}
