// attention: y = softmax(mask(scale q k^T)) v inside blocks of `sequence` rows, with lse = log(sum(exp(scores))). A block
// has 64 query rows of one head and goes through the keys they see, 64 at a time (online softmax, rescaled once per
// tile). Kernels differ in the head sizes their sums have registers for.
//
// Per query and key: 4 D flops. 4,096 causal rows of 32 heads of 64 dims: 69 GFLOP, 1.03 ms at 67 TFLOP/s; memory once
// 100 MB, 21 us at 4.8 TB/s. Arithmetic limits; see lib/attention_tile.h.
#include "lib/attention_tile.h"

template <uint32_t CHUNKS>
DEVICE void attention(const Dense& call, float* y, float* lse, float scale, float softcap) {
  SHARED(stage, Stage);
  SHARED(weights, RowStage);
  const uint32_t tiles = (call.sequence + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
  // The last queries of a block see the most keys: they start first.
  const uint32_t tile = tiles - 1 - blockIdx.x % tiles, head = blockIdx.x / tiles % call.heads;
  const uint32_t start = blockIdx.x / tiles / call.heads * call.sequence, end = start + call.sequence;
  const uint32_t first = start + tile * ATTENTION_ROWS;
  const uint32_t last = (end < first + ATTENTION_ROWS ? end : first + ATTENTION_ROWS) - 1;
  const HeadRows q = call.query(head), k = call.key(head / call.sharing()), v = call.value(head / call.sharing());

  uint32_t own[4];
  float top[4], total[4], sum[CHUNKS][4][4] = {};
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    own[i] = call.document(first + tile_row() + i <= last ? first + tile_row() + i : last);
    top[i] = MASKED;
    total[i] = 0.0f;
  }
  const uint32_t key_first = call.window > 0 && first + 1 > start + call.window ? first + 1 - call.window : start;
  const uint32_t key_end = call.causal ? last + 1 : end;
  for (uint32_t key = key_first; key < key_end; key += ATTENTION_ROWS) {
    float p[4][4];
    tile_dots(p, stage.columns, q, first, last + 1, k, key, key_end, call.dim);
    uint32_t other[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
      const uint32_t u = key + tile_column() + j;
      other[j] = call.document(u < key_end ? u : key_end - 1);
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
      const uint32_t t = first + tile_row() + i;
      float largest = MASKED;
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) {
        const uint32_t u = key + tile_column() + j;
        p[i][j] = u < key_end && call.visible(t, u, own[i], other[j]) ? softcap_value(scale * p[i][j], softcap) : MASKED;
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
    add_weighted(sum, weights, stage.rows, v, key, key_end, call.dim);
  }

  float inverse[4];
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    total[i] = row_sum16(total[i]);
    inverse[i] = total[i] > 0.0f ? 1.0f / total[i] : 0.0f;
    const uint32_t t = first + tile_row() + i;
    if (tile_column() == 0 && t <= last)
      lse[static_cast<uint64_t>(t) * call.heads + head] = total[i] > 0.0f ? top[i] + logf(total[i]) : MASKED;
  }
  store_rows(y, call.heads * call.dim, head * call.dim, sum, inverse, first, last + 1, call.dim);
}

KERNEL(attention_64, 256, const float* qkv, OPTIONAL const uint32_t* documents, float* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap) {
  attention<1>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap);
}

KERNEL(attention_256, 256, const float* qkv, OPTIONAL const uint32_t* documents, float* y, float* lse, uint32_t heads,
       uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
       float softcap) {
  attention<4>({qkv, documents, heads, kv_heads, dim, sequence, causal, window}, y, lse, scale, softcap);
}
