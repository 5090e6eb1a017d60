// attention: y = softmax(mask(scale q k^T)) v inside blocks of `sequence` rows, with lse = log(sum(exp(scores))). A
// thread block has 64 query rows of one head and goes through the keys they see, 64 at a time (online softmax,
// rescaled once per tile). Kernels differ in the storage of qkv and the head sizes their sums have registers for.
//
// Per query and key: 4 D flops. 4,096 causal rows of 32 heads and 8 key heads of 128 dims: 137 GFLOP, 2.1 ms at 67
// TFLOP/s; memory once 168 MB, 35 us at 4.8 TB/s. Arithmetic limits; see lib/attention_tile.h.
#include "lib/attention_tile.h"

template <class Storage, uint32_t CHUNKS>
DEVICE void attention(const Dense<Storage>& call, void* y, float* lse, float scale, float softcap,
                      uint32_t out_bits) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  // The last queries see the most keys, if only those before.
  const BlockRows rows = BlockRows::of_grid(call.sequence, call.heads, true);
  const KeyRange keys(call, rows);
  const uint32_t kv_head = rows.head / call.sharing();
  const HeadRows<Storage> q = call.query(rows.head), k = call.key(kv_head), v = call.value(kv_head);

  float top[4], total[4];
  Sums<CHUNKS> sum = {};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    top[i] = MASKED;
    total[i] = 0.0f;
  }
  for (uint32_t key = keys.begin; key < keys.end; key += TILE_ROWS) {
    Scores p;
    tile_dots(p, stage, q, rows.first, rows.last + 1, k, key, keys.end, call.dim);
    // Bit 4 i + j: whether row i sees column j. One register, where documents would take eight.
    uint32_t seen = 0;
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
      const uint32_t u = key + tile_column() + j;
      const uint32_t other = call.document(u < keys.end ? u : keys.end - 1);
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t t = rows.clamp(rows.first + tile_row() + i);
        seen |= (u < keys.end && call.visible(t, u, call.document(t), other) ? 1u : 0u) << (4 * i + j);
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
      float largest = MASKED;
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        p[i][j] = seen >> (4 * i + j) & 1 ? softcap_value(scale * p[i][j], softcap) : MASKED;
        largest = fmaxf(largest, p[i][j]);
      }
      const float new_top = fmaxf(top[i], row_max16(largest)), keep = expf(top[i] - new_top);
      top[i] = new_top;
      total[i] *= keep;  // of this thread's columns; threads are joined at the end
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        p[i][j] = p[i][j] > MASKED ? expf(p[i][j] - new_top) : 0.0f;
        total[i] += p[i][j];
      }
#pragma unroll
      for (uint32_t c = 0; c < CHUNKS; c++)
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) sum[c][i][j] *= keep;
    }
    put_weights(weights, p);
    add_weighted(sum, weights, stage, v, key, keys.end, call.dim);
  }

#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    total[i] = row_sum16(total[i]);
    // Rows that see nothing have summed 0 times whatever padding holds.
    const float inverse = 1.0f / total[i];
#pragma unroll
    for (uint32_t c = 0; c < CHUNKS; c++)
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) sum[c][i][j] = total[i] > 0.0f ? sum[c][i][j] * inverse : 0.0f;
    const uint32_t t = rows.first + tile_row() + i;
    if (tile_column() == 0 && t <= rows.last)
      lse[static_cast<uint64_t>(t) * call.heads + rows.head] = total[i] > 0.0f ? top[i] + logf(total[i]) : MASKED;
  }
  store_rows<Storage>(y, out_bits, call.heads * call.dim, rows.head * call.dim, sum, rows.first, rows.last + 1,
                      call.dim);
}

KERNEL(attention_128_f32, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap, uint32_t out_bits) {
  attention<F32, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}

KERNEL(attention_256_f32, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap, uint32_t out_bits) {
  attention<F32, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}

KERNEL(attention_128_f16, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap, uint32_t out_bits) {
  attention<F16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}

KERNEL(attention_256_f16, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap, uint32_t out_bits) {
  attention<F16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}

KERNEL(attention_128_bf16, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse,
       uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
       float scale, float softcap, uint32_t out_bits) {
  attention<BF16, 2>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}

KERNEL(attention_256_bf16, 256, const void* qkv, OPTIONAL const uint32_t* documents, void* y, float* lse,
       uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
       float scale, float softcap, uint32_t out_bits) {
  attention<BF16, 4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap,
                    out_bits);
}
