// attention_paged for many query rows per sequence (prefill): one block per key head and tile of 64 items, an item
// being a pair of row and query head; the heads that share a key head lie side by side. A block visits each run of
// rows of one sequence in turn and goes through that run's pages; items of other runs are masked.
//
// Per page: scores [64 items][64 tokens] from staged slices of 32 dims, an online softmax in registers, then sums
// [64 items][dim] from staged slices of 64 dims. A thread has 4 x 4 of each: 16 multiply-adds for two loads from
// shared memory.
//
// Per item and token: 4 dim flops; per tile and page: 64 vectors of keys, values and, again, queries, from L2 mostly.
// At 64 items that is 21 (f32) to 38 (e4m3) flops per byte of it, so f32 arithmetic is the limit: 2,048 rows of a
// sequence, 32 heads, dim 128 are 34 Gflop a layer, 0.6 ms at 60 Tflop/s.
#include "lib/paged.h"
#include "lib/small_float.h"

constexpr uint32_t TILE = 64;      // items, and tokens, of a tile
constexpr uint32_t SLICE = 32;     // dims of queries and keys that are staged at once
constexpr uint32_t STRIDE = 68;    // of staged rows: keeps float4 aligned and spreads columns over banks
constexpr uint32_t MOST_DIMS = 4;  // slices of TILE dims in the largest head

struct PrefillCall {
  const void* qkv;
  PagedCache cache;
  const uint32_t *sequence, *position;
  void* y;
  uint32_t qkv_format, output_format, rows, heads, window;
  Scores scores;
};

// Rows first to end of a tile that follow each other in one sequence, and the tokens that any of them sees.
struct Run {
  uint32_t sequence, first, end, low, high;
};

DEVICE Run next_run(const PrefillCall& call, uint32_t first, uint32_t last) {
  Run run = {call.sequence[first], first, first, 0, 0};
  uint32_t nearest = 0xffffffffu;
  for (; run.end <= last && call.sequence[run.end] == run.sequence; run.end++) {
    nearest = min(nearest, call.position[run.end]);
    run.high = max(run.high, call.position[run.end]);
  }
  run.low = window_start(nearest, call.window);
  return run;
}

// Writes four elements of vector `column` into a staged tile [dim][column].
DEVICE void put_column(float (&tile)[SLICE][STRIDE], uint32_t dim, uint32_t column, float4 v) {
  tile[dim][column] = v.x;
  tile[dim + 1][column] = v.y;
  tile[dim + 2][column] = v.z;
  tile[dim + 3][column] = v.w;
}

// sums[i] += a[i] * b for the four rows of a thread.
DEVICE void add_outer(float4 (&sums)[4], float4 a, float4 b) {
  add_scaled(sums[0], a.x, b);
  add_scaled(sums[1], a.y, b);
  add_scaled(sums[2], a.z, b);
  add_scaled(sums[3], a.w, b);
}

// Combines over the 16 threads that share four items.
DEVICE float max_of_items(float x) {
  for (uint32_t step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, step));
  return x;
}

DEVICE float sum_of_items(float x) {
  for (uint32_t step = 8; step > 0; step /= 2) x += __shfl_xor_sync(FULL_WARP, x, step);
  return x;
}

template <typename Format>
DEVICE void prefill(const PrefillCall& call) {
  const PagedCache& cache = call.cache;
  const uint32_t dim = cache.dim, sharing = call.heads / cache.kv_heads, items = call.rows * sharing;
  const uint32_t tiles = (items + TILE - 1) / TILE;
  // The last tiles see the most tokens of a growing sequence; they start first.
  const uint32_t kv_head = blockIdx.x % cache.kv_heads;
  const uint32_t first_item = (tiles - 1 - blockIdx.x / cache.kv_heads) * TILE;
  const uint32_t last_item = min(first_item + TILE, items) - 1, last_row = last_item / sharing;
  const uint64_t row_width = static_cast<uint64_t>(call.heads + 2 * cache.kv_heads) * dim;
  const auto head_of = [=](uint32_t item) { return kv_head * sharing + item % sharing; };

  SHARED(staged, float[2][SLICE][STRIDE]);
  SHARED(weights, float[TILE][STRIDE]);  // [token][item]
  SHARED(seen, uint2[TILE]);             // in the current run: first token that an item sees, one past its last
  auto& values = *reinterpret_cast<float(*)[TILE][STRIDE]>(&staged);  // [token][dim]

  // This thread's four items from `own`, and four tokens or dims from `column`.
  const uint32_t own = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  // Staging of a slice: neighbours take 8 columns of 4 times 4 dims, whole 64-byte pieces with few bank conflicts.
  const uint32_t stage_column = threadIdx.x % 8 + threadIdx.x / 32 * 8, stage_dim = threadIdx.x % 32 / 8 * 4;

  float top[4], total[4];
  float4 sums[MOST_DIMS][4];
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    top[i] = MASKED;
    total[i] = 0;
#pragma unroll
    for (uint32_t c = 0; c < MOST_DIMS; c++) sums[c][i] = {};
  }

  for (uint32_t next = first_item / sharing; next <= last_row;) {
    const Run run = next_run(call, next, last_row);
    next = run.end;
    if (run.sequence == PADDING_ROW) continue;
    // No barrier: what is read after the first one of a page was read before the last one of the page before.
    if (threadIdx.x < TILE) {
      const uint32_t item = first_item + threadIdx.x, row = item / sharing;
      seen[threadIdx.x] = make_uint2(0, 0);
      if (item <= last_item && row >= run.first && row < run.end)
        seen[threadIdx.x] = make_uint2(window_start(call.position[row], call.window), call.position[row] + 1);
    }
    for (uint32_t page = run.low / PAGE_TOKENS * PAGE_TOKENS; page <= run.high; page += PAGE_TOKENS) {
      const uint64_t at = cache.at(run.sequence, kv_head, page);
      // Tokens that no row of the run sees may hold anything, even NaN.
      const auto exists = [=](uint32_t token) { return page + token >= run.low && page + token <= run.high; };

      float4 score[4] = {};
      for (uint32_t slice = 0; slice < dim; slice += SLICE) {
        __syncthreads();  // until here the staged values and weights may still be read
        for (uint32_t half = 0; half < SLICE; half += 16) {
          const uint32_t d = stage_dim + half, item = first_item + stage_column;
          const bool inside = slice + d < dim;
          float4 q = {}, k = {};
          if (inside && item <= last_item) {
            const uint64_t start = item / sharing * row_width + head_of(item) * dim + slice + d;
            q = times(load4_of(call.qkv_format, call.qkv, start), call.scores.scale);
          }
          if (inside && exists(stage_column))
            k = Format::load4(cache.k_pool, 0, at + stage_column * dim + slice + d);
          put_column(staged[0], d, stage_column, q);
          put_column(staged[1], d, stage_column, k);
        }
        __syncthreads();
        for (uint32_t d = 0; d < SLICE; d++)
          add_outer(score, *reinterpret_cast<const float4*>(&staged[0][d][own]),
                    *reinterpret_cast<const float4*>(&staged[1][d][column]));
      }

      float4 weight[4];
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const uint2 range = seen[own + i];
        const float4 s = score[i];
        const float one[4] = {s.x, s.y, s.z, s.w};
        float of_token[4], highest = MASKED;
        bool visible[4];
        for (uint32_t j = 0; j < 4; j++) {
          const uint32_t token = page + column + j;
          visible[j] = token >= range.x && token < range.y;
          of_token[j] = visible[j] ? call.scores.score(one[j]) : MASKED;
          highest = fmaxf(highest, of_token[j]);
        }
        highest = fmaxf(top[i], max_of_items(highest));
        const float keep = exp2f(top[i] - highest);
        top[i] = highest;
        for (uint32_t j = 0; j < 4; j++) of_token[j] = visible[j] ? exp2f(of_token[j] - highest) : 0.0f;
        weight[i] = make_float4(of_token[0], of_token[1], of_token[2], of_token[3]);
        total[i] = total[i] * keep + sum_of_items(of_token[0] + of_token[1] + (of_token[2] + of_token[3]));
#pragma unroll
        for (uint32_t c = 0; c < MOST_DIMS; c++) sums[c][i] = times(sums[c][i], keep);
      }
      const auto put_weights = [&](uint32_t token, float a, float b, float c, float d) {
        *reinterpret_cast<float4*>(&weights[token][own]) = make_float4(a, b, c, d);
      };
      put_weights(column, weight[0].x, weight[1].x, weight[2].x, weight[3].x);
      put_weights(column + 1, weight[0].y, weight[1].y, weight[2].y, weight[3].y);
      put_weights(column + 2, weight[0].z, weight[1].z, weight[2].z, weight[3].z);
      put_weights(column + 3, weight[0].w, weight[1].w, weight[2].w, weight[3].w);

#pragma unroll
      for (uint32_t c = 0; c < MOST_DIMS; c++) {
        if (c * TILE >= dim) continue;
        __syncthreads();  // the keys, or the values before, were read, and the weights are written
        // Two loads in flight: with four, two blocks would not have registers enough beside each other.
#pragma unroll 2
        for (uint32_t token = threadIdx.x / 16; token < TILE; token += 16) {
          const uint32_t d = c * TILE + column;
          *reinterpret_cast<float4*>(&values[token][column]) =
              d < dim && exists(token) ? Format::load4(cache.v_pool, 0, at + token * dim + d) : float4{};
        }
        __syncthreads();
        for (uint32_t token = 0; token < TILE; token++)
          add_outer(sums[c], *reinterpret_cast<const float4*>(&weights[token][own]),
                    *reinterpret_cast<const float4*>(&values[token][column]));
      }
    }
  }

#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t item = first_item + own + i;
    if (item > last_item) break;
    const float inverse = total[i] > 0.0f ? 1.0f / total[i] : 0.0f;
    const uint64_t start = (static_cast<uint64_t>(item / sharing) * call.heads + head_of(item)) * dim;
#pragma unroll
    for (uint32_t c = 0; c < MOST_DIMS; c++) {
      const uint32_t d = c * TILE + column;
      if (d < dim) store4_as(call.output_format, call.y, start + d, times(sums[c][i], inverse));
    }
  }
}

KERNEL(attention_paged_prefill_f32, 256, const void* qkv, const void* k_pool, const void* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y, uint32_t qkv_format,
       uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages,
       uint32_t window, float scale, float cap) {
  prefill<F32>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, qkv_format,
                output_format, rows, heads, window, {scale, cap}});
}

KERNEL(attention_paged_prefill_f16, 256, const void* qkv, const void* k_pool, const void* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y, uint32_t qkv_format,
       uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages,
       uint32_t window, float scale, float cap) {
  prefill<F16>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, qkv_format,
                output_format, rows, heads, window, {scale, cap}});
}

KERNEL(attention_paged_prefill_e4m3, 256, const void* qkv, const void* k_pool, const void* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y, uint32_t qkv_format,
       uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages,
       uint32_t window, float scale, float cap) {
  prefill<E4M3>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, qkv_format,
                 output_format, rows, heads, window, {scale, cap}});
}
