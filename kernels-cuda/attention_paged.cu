// attention_paged for few query rows per sequence (decode): one block per row, key head and split of its tokens.
//
// The query heads that share a key head are four at a time in a block, so keys and values are read once for them. A
// group of 8, 16 or 32 lanes (dim up to 64, 128, 256) holds one token's vector, eight elements a lane, and takes four
// tokens at a time with a softmax of its own; groups share nothing until the end, so there is no barrier on the way.
// Where rows are few, splits of whole pages occupy the GPU; attention_paged_merge joins them.
//
// Per token and key head: 4 dim bytes (f16) or 8 dim (f32), 4 dim flops per query head. With four heads that is 4 or
// 2 flops per byte: memory bandwidth is the limit. A batch of 64 sequences of 4,096 tokens, 8 key heads, dim 128 in
// f16 reads 1.1 GB a layer, 224 us at 4.8 TB/s. Some 12 warps of a multiprocessor have 4 KB of loads in flight each.
#include "lib/paged.h"
#include "lib/reduce.h"
#include "lib/strided.h"

constexpr uint32_t THREADS = 128;
constexpr uint32_t HEADS = 4;   // query heads of a block
constexpr uint32_t TOKENS = 4;  // tokens of a group's step; aligned, so they are in one page
constexpr uint32_t CHUNKS = 2;  // float4 of a vector in each lane

struct DecodeCall {
  const float* qkv;
  PagedCache cache;
  const uint32_t *sequence, *position;
  float* y;            // [row][head][dim]; null where splits are joined later
  float* sums;         // [row][head][split][dim]: sum of weights times values
  float2* statistics;  // [row][head][split]: highest score, sum of weights
  uint32_t heads, window, lanes, splits;
  Scores scores;
};

// What one head has seen so far, in a group of lanes.
struct HeadState {
  float top, total;
  float4 sum[CHUNKS];

  // Adds tokens with these scores; those that are not visible may hold anything.
  DEVICE void add(const float (&score)[TOKENS], const bool (&visible)[TOKENS], const float4 (&v)[TOKENS][CHUNKS]) {
    float highest = top;
    for (uint32_t j = 0; j < TOKENS; j++) highest = fmaxf(highest, visible[j] ? score[j] : MASKED);
    const float keep = exp2f(top - highest);
    top = highest;
    total *= keep;
    for (uint32_t c = 0; c < CHUNKS; c++) sum[c] = times(sum[c], keep);
    for (uint32_t j = 0; j < TOKENS; j++) {
      const float weight = visible[j] ? exp2f(score[j] - highest) : 0.0f;
      total += weight;
      for (uint32_t c = 0; c < CHUNKS; c++) add_scaled(sum[c], weight, v[j][c]);
    }
  }
};

template <typename Format>
DEVICE void decode(const DecodeCall& call) {
  const PagedCache& cache = call.cache;
  const uint32_t dim = cache.dim, sharing = call.heads / cache.kv_heads, parts = (sharing + HEADS - 1) / HEADS;
  uint32_t index = blockIdx.x;
  const uint32_t part = index % parts;
  index /= parts;
  const uint32_t split = index % call.splits;
  index /= call.splits;
  const uint32_t kv_head = index % cache.kv_heads, row = index / cache.kv_heads;
  const uint32_t first_head = kv_head * sharing + part * HEADS, count = min(HEADS, sharing - part * HEADS);

  // The tokens of this split: a share of the pages that the row sees.
  const uint32_t sequence = call.sequence[row];
  uint32_t first = 0, end = 0;
  if (sequence != PADDING_ROW) {
    const uint32_t position = call.position[row], start = window_start(position, call.window);
    const uint32_t first_page = start / PAGE_TOKENS, pages = position / PAGE_TOKENS + 1 - first_page;
    const uint32_t share = (pages + call.splits - 1) / call.splits * PAGE_TOKENS;
    const uint32_t from = first_page * PAGE_TOKENS + split * share;
    first = max(start, from);
    end = min(position + 1, from + share);
  }

  const uint32_t lanes = call.lanes, groups = THREADS / lanes;
  const uint32_t group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  const float4* queries = reinterpret_cast<const float4*>(
      call.qkv + (static_cast<uint64_t>(row) * (call.heads + 2 * cache.kv_heads) + first_head) * dim);
  float4 q[HEADS][CHUNKS];
  HeadState heads[HEADS];
  for (uint32_t h = 0; h < HEADS; h++) {
    heads[h] = {MASKED, 0, {}};
    for (uint32_t c = 0; c < CHUNKS; c++) {
      const uint32_t chunk = lane + c * lanes;
      q[h][c] = h < count && 4 * chunk < dim ? times(queries[h * (dim / 4) + chunk], call.scores.scale) : float4{};
    }
  }

  for (uint32_t base = first / TOKENS * TOKENS; base < end; base += TOKENS * groups) {
    const uint32_t token = base + group * TOKENS;
    const uint64_t at = token < end ? cache.at(sequence, kv_head, token) : 0;
    bool visible[TOKENS];
    float4 k[TOKENS][CHUNKS], v[TOKENS][CHUNKS];
    for (uint32_t j = 0; j < TOKENS; j++) {
      visible[j] = token + j >= first && token + j < end;
      for (uint32_t c = 0; c < CHUNKS; c++) {
        const uint32_t element = 4 * (lane + c * lanes);
        const bool exists = visible[j] && element < dim;
        k[j][c] = exists ? Format::load4(cache.k_pool, 0, at + j * dim + element) : float4{};
        v[j][c] = exists ? Format::load4(cache.v_pool, 0, at + j * dim + element) : float4{};
      }
    }
    for (uint32_t h = 0; h < HEADS; h++) {
      if (h >= count) continue;
      float score[TOKENS];
      for (uint32_t j = 0; j < TOKENS; j++) score[j] = dot(q[h][0], k[j][0]) + dot(q[h][1], k[j][1]);
      for (uint32_t step = lanes / 2; step > 0; step /= 2)
        for (uint32_t j = 0; j < TOKENS; j++) score[j] += __shfl_xor_sync(FULL_WARP, score[j], step);
      for (uint32_t j = 0; j < TOKENS; j++) score[j] = call.scores.score(score[j]);
      heads[h].add(score, visible, v);
    }
  }

  SHARED(sums, float4[HEADS][CHUNKS][THREADS]);
  SHARED(statistics, float2[HEADS][THREADS / 8]);
  for (uint32_t h = 0; h < HEADS; h++) {
    for (uint32_t c = 0; c < CHUNKS; c++) sums[h][c][threadIdx.x] = heads[h].sum[c];
    if (lane == 0) statistics[h][group] = make_float2(heads[h].top, heads[h].total);
  }
  __syncthreads();
  for (uint32_t unit = threadIdx.x; unit < count * (dim / 4); unit += THREADS) {
    const uint32_t h = unit / (dim / 4), chunk = unit % (dim / 4);
    float top = MASKED, total = 0;
    for (uint32_t g = 0; g < groups; g++) top = fmaxf(top, statistics[h][g].x);
    float4 sum = {};
    for (uint32_t g = 0; g < groups; g++) {
      const float keep = exp2f(statistics[h][g].x - top);
      total += keep * statistics[h][g].y;
      add_scaled(sum, keep, sums[h][chunk / lanes][g * lanes + chunk % lanes]);
    }
    const uint64_t item = static_cast<uint64_t>(row) * call.heads + first_head + h;
    if (call.y) {
      reinterpret_cast<float4*>(call.y)[item * (dim / 4) + chunk] = times(sum, total > 0.0f ? 1.0f / total : 0.0f);
    } else {
      const uint64_t place = item * call.splits + split;
      reinterpret_cast<float4*>(call.sums)[place * (dim / 4) + chunk] = sum;
      if (chunk == 0) call.statistics[place] = make_float2(top, total);
    }
  }
}

KERNEL(attention_paged_decode_f32, 128, const float* qkv, const void* k_pool, const void* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, OPTIONAL float* y,
       OPTIONAL float* sums, OPTIONAL float* statistics, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t pages, uint32_t window, uint32_t lanes, uint32_t splits, float scale, float cap) {
  decode<F32>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, sums,
               reinterpret_cast<float2*>(statistics), heads, window, lanes, splits, {scale, cap}});
}

KERNEL(attention_paged_decode_f16, 128, const float* qkv, const void* k_pool, const void* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, OPTIONAL float* y,
       OPTIONAL float* sums, OPTIONAL float* statistics, uint32_t heads, uint32_t kv_heads, uint32_t dim,
       uint32_t pages, uint32_t window, uint32_t lanes, uint32_t splits, float scale, float cap) {
  decode<F16>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, sums,
               reinterpret_cast<float2*>(statistics), heads, window, lanes, splits, {scale, cap}});
}

// y of `items` pairs of row and head from their splits, one warp each. A split without tokens has weight 0.
//
// Bytes per item: 4 dim per split; a few hundred KB at most, so the launch itself is the cost.
KERNEL(attention_paged_merge, 256, const float* sums, const float* statistics, float* y, uint32_t items, uint32_t dim,
       uint32_t splits) {
  const uint64_t item = static_cast<uint64_t>(blockIdx.x) * 8 + threadIdx.x / 32;
  if (item >= items) return;
  const uint32_t lane = threadIdx.x % 32;
  const float2* of_split = reinterpret_cast<const float2*>(statistics) + item * splits;
  float top = MASKED, total = 0;
  for (uint32_t s = lane; s < splits; s += 32) top = fmaxf(top, of_split[s].x);
  top = warp_max(top);
  for (uint32_t s = lane; s < splits; s += 32) total += exp2f(of_split[s].x - top) * of_split[s].y;
  total = warp_sum(total);
  const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
  const float4* own = reinterpret_cast<const float4*>(sums) + item * splits * (dim / 4);
  for (uint32_t chunk = lane; chunk < dim / 4; chunk += 32) {
    float4 sum = {};
    strided<uint32_t>(0, splits, 1, [&](uint32_t s) {
      add_scaled(sum, exp2f(of_split[s].x - top), own[s * (dim / 4) + chunk]);
    });
    reinterpret_cast<float4*>(y)[item * (dim / 4) + chunk] = times(sum, inverse);
  }
}
