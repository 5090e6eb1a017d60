// attention_paged for few query rows per sequence (decode): one block per row, key head and split of its tokens.
//
// The query heads that share a key head are four at a time in a block, so keys and values are read once for them. Each
// of the block's four warps takes every fourth step of its tokens, whose keys lie side by side, as do their values: the
// copy engine brings both into the warp's own ring of stages, so warps share nothing until the end and no registers
// wait for memory. A group of 8, 16 or 32 lanes (dim up to 64, 128, 256) has four tokens of a step and one softmax, a
// vector's eight elements a lane. Where rows are few, splits of whole pages occupy the GPU; attention_paged_merge joins
// them.
//
// Per token and key head: 8 dim bytes in f32, 4 dim in f16, 2 dim in e4m3; 4 dim flops per query head: with four heads
// 2 to 8 a byte. Memory bandwidth is the limit: a batch of 64 sequences of 4,096 tokens, 8 key heads, dim 128 in f16
// reads 1.1 GB a layer, 224 us at 4.8 TB/s. That is 20 bytes a cycle for each of 132 multiprocessors, 25 KB under way
// at 700 ns; three blocks on one have 96 KB in their rings. A warp takes about 520 instructions for its step, 4 KB in
// f16: 130 cycles of the four schedulers, where memory takes 205; in e4m3 102, so there instructions limit at 78%.
#include "lib/bulk.h"
#include "lib/decode_softmax.h"
#include "lib/reduce.h"
#include "lib/small_float.h"
#include "lib/strided.h"

constexpr uint32_t THREADS = 128, WARPS = THREADS / 32;
constexpr uint32_t MOST_HEADS = 4;  // query heads of a block, where as many share a key head
constexpr uint32_t CHUNKS = 2;      // float4 of a vector in each lane
// Elements of the keys of a warp's step, at most, and bytes of its ring.
constexpr uint32_t STEP_ELEMENTS = 32 * 4 * CHUNKS * TOKENS, RING_BYTES = 8192;

struct DecodeCall {
  const void* qkv;
  PagedCache cache;
  const uint32_t *sequence, *position;
  void* y;             // [row][head][dim]; null where splits are joined later
  float* sums;         // [row][head][split][dim]: sum of weights times values
  float2* statistics;  // [row][head][split]: highest score, sum of weights
  uint32_t qkv_format, output_format, heads, window, splits;
  Scores scores;
};

// `BYTES` are an element's.
template <uint32_t BYTES>
struct DecodeShared {
  static constexpr uint32_t STAGES = RING_BYTES / (2 * STEP_ELEMENTS * BYTES);
  struct Stage {
    alignas(128) unsigned char k[STEP_ELEMENTS * BYTES], v[STEP_ELEMENTS * BYTES];
  };
  union {
    Stage ring[WARPS][STAGES];
    float4 sums[MOST_HEADS][CHUNKS][THREADS];  // when all tokens are done
  };
  float2 statistics[MOST_HEADS][THREADS / 8];
  Mbarrier full[WARPS][STAGES];
};

// What a block has: query heads first_head to first_head + count - 1 of a row, and tokens first to end - 1.
struct Share {
  uint32_t row, kv_head, split, first_head, count, sequence, first, end;

  DEVICE explicit Share(const DecodeCall& call) {
    const uint32_t kv_heads = call.cache.kv_heads, sharing = call.heads / kv_heads;
    const uint32_t parts = (sharing + MOST_HEADS - 1) / MOST_HEADS;
    uint32_t index = blockIdx.x;
    const uint32_t part = index % parts;
    index /= parts;
    split = index % call.splits;
    index /= call.splits;
    kv_head = index % kv_heads;
    row = index / kv_heads;
    first_head = kv_head * sharing + part * MOST_HEADS;
    count = min(MOST_HEADS, sharing - part * MOST_HEADS);
    sequence = call.sequence[row];
    first = end = 0;
    if (sequence == PADDING_ROW) return;
    // A share of the pages that the row sees.
    const uint32_t position = call.position[row], start = window_start(position, call.window);
    const uint32_t first_page = start / PAGE_TOKENS, pages = position / PAGE_TOKENS + 1 - first_page;
    const uint32_t length = (pages + call.splits - 1) / call.splits * PAGE_TOKENS;
    const uint32_t from = first_page * PAGE_TOKENS + split * length;
    first = max(start, from);
    end = min(position + 1, from + length);
  }
};

template <typename Format, uint32_t LANES, uint32_t HEADS>
DEVICE void decode(const DecodeCall& call) {
  using Weights = Softmax<LANES, HEADS>;
  using Shared = DecodeShared<Format::BYTES>;
  constexpr uint32_t STAGES = Shared::STAGES, STEP = TOKENS * 32 / LANES, GROUPS = THREADS / LANES;
  DYNAMIC_SHARED(shared, Shared);
  const PagedCache& cache = call.cache;
  const Share share(call);
  const uint32_t dim = cache.dim, warp = threadIdx.x / 32, group = threadIdx.x / LANES, lane = threadIdx.x % LANES;

  if (threadIdx.x < WARPS * STAGES) mbarrier_init(shared.full[threadIdx.x / STAGES][threadIdx.x % STAGES], 1);
  mbarrier_fence_init();
  __syncthreads();

  // Steps are aligned, so a step is in one page.
  const auto token_of = [&](uint32_t i) { return share.first / STEP * STEP + (i * WARPS + warp) * STEP; };
  const auto bring = [&](uint32_t i) {
    const uint32_t token = token_of(i);
    if (threadIdx.x % 32 != 0 || token >= share.end) return;
    typename Shared::Stage& stage = shared.ring[warp][i % STAGES];
    Mbarrier& full = shared.full[warp][i % STAGES];
    const uint64_t at = cache.at(share.sequence, share.kv_head, token) * Format::BYTES;
    const uint32_t bytes = STEP * dim * Format::BYTES;
    mbarrier_arrive_expect(full, 2 * bytes);
    bulk_load(stage.k, static_cast<const unsigned char*>(cache.k_pool) + at, bytes, full);
    bulk_load(stage.v, static_cast<const unsigned char*>(cache.v_pool) + at, bytes, full);
  };
  for (uint32_t i = 0; i < STAGES; i++) bring(i);

  const uint64_t queries =
    (static_cast<uint64_t>(share.row) * (call.heads + 2 * cache.kv_heads) + share.first_head) * dim;
  // Lanes past the dims repeat the last four, and heads past the count are zeros: neither is stored.
  uint32_t element[CHUNKS];
  for (uint32_t c = 0; c < CHUNKS; c++) element[c] = min(dim - 4, 4 * (lane + c * LANES));
  float4 q[HEADS][CHUNKS], sum[HEADS][CHUNKS] = {};
#pragma unroll
  for (uint32_t h = 0; h < HEADS; h++)
#pragma unroll
    for (uint32_t c = 0; c < CHUNKS; c++)
      q[h][c] = h < share.count && 4 * (lane + c * LANES) < dim
                  ? times(load4_of(call.qkv_format, call.qkv, queries + h * dim + element[c]), call.scores.scale)
                  : float4{};

  Weights softmax;
  for (uint32_t i = 0; token_of(i) < share.end; i++) {
    const typename Shared::Stage& stage = shared.ring[warp][i % STAGES];
    const uint32_t own = group % (32 / LANES) * TOKENS, token = token_of(i) + own;
    mbarrier_wait(shared.full[warp][i % STAGES], i / STAGES % 2);
    const auto load = [&](const unsigned char* vectors, uint32_t j, uint32_t c) {
      return Format::load4(vectors, 0, (own + j) * dim + element[c]);
    };
    float score[Weights::PAIRS], keep;
#pragma unroll
    for (uint32_t j = 0; j < TOKENS; j++) {
      const float4 low = load(stage.k, j, 0), high = load(stage.k, j, 1);
#pragma unroll
      for (uint32_t h = 0; h < HEADS; h++) score[h * TOKENS + j] = dot(q[h][0], low) + dot(q[h][1], high);
    }
    Weights::template reduce<>(score);
    softmax.weigh(score, token, share.first, share.end, call.scores, keep);
#pragma unroll
    for (uint32_t h = 0; h < HEADS; h++) {
      const float of_head = __shfl_sync(FULL_WARP, keep, Weights::lane_of(h * TOKENS));
#pragma unroll
      for (uint32_t c = 0; c < CHUNKS; c++) sum[h][c] = times(sum[h][c], of_head);
    }
#pragma unroll
    for (uint32_t j = 0; j < TOKENS; j++) {
      // Slots of tokens that the row does not see may hold anything, even NaN.
      const bool visible = token + j >= share.first && token + j < share.end;
      const float4 low = visible ? load(stage.v, j, 0) : float4{}, high = visible ? load(stage.v, j, 1) : float4{};
#pragma unroll
      for (uint32_t h = 0; h < HEADS; h++) {
        const uint32_t pair = h * TOKENS + j;
        const float weight = __shfl_sync(FULL_WARP, score[pair % Weights::OWN], Weights::lane_of(pair));
        add_scaled(sum[h][0], weight, low);
        add_scaled(sum[h][1], weight, high);
      }
    }
    __syncwarp();  // until here the stage is read
    bring(i + STAGES);
  }

  const float total = softmax.whole_total();
  __syncthreads();  // until here other warps' stages may be read
  if (threadIdx.x < WARPS * STAGES)
    mbarrier_invalidate(shared.full[threadIdx.x / STAGES][threadIdx.x % STAGES]);  // a walker goes on to other blocks
#pragma unroll
  for (uint32_t h = 0; h < HEADS; h++)
#pragma unroll
    for (uint32_t c = 0; c < CHUNKS; c++) shared.sums[h][c][threadIdx.x] = sum[h][c];
  const uint32_t pair = Weights::first_pair();
  if (pair % TOKENS == 0 && lane % Weights::SAME == 0)
    shared.statistics[pair / TOKENS][group] = make_float2(softmax.top, total);
  __syncthreads();
  for (uint32_t unit = threadIdx.x; unit < share.count * (dim / 4); unit += THREADS) {
    const uint32_t h = unit / (dim / 4), chunk = unit % (dim / 4);
    float top = MASKED, of_all = 0;
    for (uint32_t g = 0; g < GROUPS; g++) top = fmaxf(top, shared.statistics[h][g].x);
    float4 joined = {};
    for (uint32_t g = 0; g < GROUPS; g++) {
      const float keep = exp2f(shared.statistics[h][g].x - top);
      of_all += keep * shared.statistics[h][g].y;
      add_scaled(joined, keep, shared.sums[h][chunk / LANES][g * LANES + chunk % LANES]);
    }
    const uint64_t item = static_cast<uint64_t>(share.row) * call.heads + share.first_head + h;
    if (call.y) {
      const float inverse = of_all > 0.0f ? 1.0f / of_all : 0.0f;
      store4_as(call.output_format, call.y, item * dim + 4 * chunk, times(joined, inverse));
    } else {
      const uint64_t place = item * call.splits + share.split;
      reinterpret_cast<float4*>(call.sums)[place * (dim / 4) + chunk] = joined;
      if (chunk == 0) call.statistics[place] = make_float2(top, of_all);
    }
  }
}

template <typename Format, uint32_t HEADS>
DEVICE void decode(const DecodeCall& call) {
  if (call.cache.dim <= 64)
    decode<Format, 8, HEADS>(call);
  else if (call.cache.dim <= 128)
    decode<Format, 16, HEADS>(call);
  else
    decode<Format, 32, HEADS>(call);
}

// Without groups a block has one head, else it takes four for it, whose number compilers know.
template <typename Format>
DEVICE void decode(const DecodeCall& call) {
  if (call.heads == call.cache.kv_heads)
    decode<Format, 1>(call);
  else
    decode<Format, MOST_HEADS>(call);
}

static_assert(sizeof(DecodeShared<4>) == 33408 && sizeof(DecodeShared<2>) == 33408 && sizeof(DecodeShared<1>) == 33408);

KERNEL_SHARED(attention_paged_decode_f32, 128, 33408, const void* qkv, const void* k_pool, const void* v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, OPTIONAL void* y,
              OPTIONAL float* sums, OPTIONAL float* statistics, uint32_t qkv_format, uint32_t output_format,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages, uint32_t window, uint32_t splits,
              float scale, float cap) {
  decode<F32>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, sums,
               reinterpret_cast<float2*>(statistics), qkv_format, output_format, heads, window, splits,
               {scale, cap}});
}

KERNEL_SHARED(attention_paged_decode_f16, 128, 33408, const void* qkv, const void* k_pool, const void* v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, OPTIONAL void* y,
              OPTIONAL float* sums, OPTIONAL float* statistics, uint32_t qkv_format, uint32_t output_format,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages, uint32_t window, uint32_t splits,
              float scale, float cap) {
  decode<F16>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, sums,
               reinterpret_cast<float2*>(statistics), qkv_format, output_format, heads, window, splits,
               {scale, cap}});
}

KERNEL_SHARED(attention_paged_decode_e4m3, 128, 33408, const void* qkv, const void* k_pool, const void* v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, OPTIONAL void* y,
              OPTIONAL float* sums, OPTIONAL float* statistics, uint32_t qkv_format, uint32_t output_format,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t pages, uint32_t window, uint32_t splits,
              float scale, float cap) {
  decode<E4M3>({qkv, {k_pool, v_pool, page_table, pages, kv_heads, dim}, sequence, position, y, sums,
                reinterpret_cast<float2*>(statistics), qkv_format, output_format, heads, window, splits,
                {scale, cap}});
}

// y of `items` pairs of row and head from their splits, one warp each. A split without tokens has weight 0.
//
// Bytes per item: 4 dim per split; a few hundred KB at most, so the launch itself is the cost.
KERNEL(attention_paged_merge, 256, const float* sums, const float* statistics, void* y, uint32_t output_format,
       uint32_t items, uint32_t dim, uint32_t splits) {
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
    store4_as(output_format, y, item * dim + 4 * chunk, times(sum, inverse));
  }
}
