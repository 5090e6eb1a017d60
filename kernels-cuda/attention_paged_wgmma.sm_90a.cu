// attention_paged for many query rows per sequence (prefill) with queries in 16 bits, a cache in f16 or e4m3 and heads
// of 64 or 128 dims, on Hopper. Persistent blocks take tiles of 128 queries, of several heads that share keys, and go
// through the pages that each run of rows of one sequence sees, 128 tokens a step; queries of other runs are masked.
// Two warpgroups multiply as those of attention do (lib/attention_turns.h), in f16: it holds every element of the
// cache.
//
// A warp brings. Queries in f16 and pages of f16 lie in shared memory as wgmma wants them when they have come. Queries
// in bf16 and pages of e4m3 are made f16 there by the three warps beside it, which have time for that: queries times a
// power of two for each row, which its scores are divided by, so that neither large nor small ones lose what they are.
// Slots of pages that no query of a run sees may hold anything, even NaN; those of values become zeros. That is in a
// run's first and last step, so other steps of f16 pages pass no warp on their way.
//
// Step of 128 queries by 128 tokens, D dims: as attention_wgmma.sm_90a.cu has it, 16 D cycles of tensor cores, the
// limit at D = 128, and at D = 64 with exponentials alike. Pages of f16 are 512 D bytes from L2, 32 a cycle, those of
// e4m3 half of that; to make f16 of them takes a dozen instructions of a warp for 256 elements, 12 D for the step's
// 256 D, of the 64 D that four schedulers have. 2,048 rows of a sequence, 32 heads, 8 key heads, D = 128: 34 GFLOP,
// 4,352 steps of 2,048 cycles on 132 multiprocessors, 37 us if nothing waits, where f32 arithmetic takes 0.6 ms.
#include "lib/attention_pages.h"
#include "lib/attention_turns.h"
#include "lib/bulk.h"
#include "lib/small_float.h"

// Beside the warp that brings.
constexpr uint32_t FINISHING_WARPS = 3;

template <uint32_t DIM, uint32_t STAGES>
struct PagedTiles : TurnTiles<KeyRing<DIM, STAGES, PageStep>> {
  float inverse[QUERY_ROWS];  // of what a row's queries were multiplied by
  Mbarrier q_come;            // queries that are not yet f16
};

// Two pages of e4m3 at a time on their way to the ring, as they are.
template <uint32_t DIM, uint32_t PAIRS>
struct RawRing {
  alignas(128) unsigned char pages[PAIRS][KEY_ROWS][DIM];
  PagedStep step[PAIRS];
  Mbarrier full[PAIRS], empty[PAIRS];

  DEVICE void init() {
    for (uint32_t p = 0; p < PAIRS; p++) {
      mbarrier_init(full[p], 1);
      mbarrier_init(empty[p], FINISHING_WARPS);
    }
  }
};

template <uint32_t DIM, uint32_t STAGES, uint32_t PAIRS>
struct RawTiles : PagedTiles<DIM, STAGES> {
  RawRing<DIM, PAIRS> raw;
};

// By a warp: brings pages of f16 from pools that are matrices of the tokens' dims to where they are multiplied.
template <uint32_t DIM, uint32_t STAGES>
struct BringF16 {
  PagedTiles<DIM, STAGES>& tiles;
  const TensorMap &k_pool, &v_pool;
  uint32_t kv_heads;
  Place<STAGES> next;
  uint32_t landed_parity = 0;

  DEVICE void operator()(const PagedStep& at, uint32_t kv_head, bool values) {
    const bool issues = threadIdx.x % 32 == 0, zeroes = values && !at.whole();
    Mbarrier& full = tiles.full[next.stage];
    mbarrier_wait(tiles.empty[next.stage], next.parity ^ 1);
    if (issues) {
      tiles.step[next.stage] = at.step;
      if (at.end()) {
        mbarrier_arrive(full);
      } else {
        Mbarrier& come = zeroes ? tiles.landed : full;
        mbarrier_arrive_expect(come, sizeof tiles.ring[0]);
#pragma unroll
        for (uint32_t p = 0; p < STEP_PAGES; p++)
          for (uint32_t d = 0; d < DIM / BOX_DIMS; d++)
            tma_load(tiles.ring[next.stage][d][p * PAGE_TOKENS], values ? v_pool : k_pool, d * BOX_DIMS,
                     (at.page[p] * kv_heads + kv_head) * PAGE_TOKENS, come);
      }
    }
    __syncwarp();
    if (zeroes) {
      mbarrier_wait(tiles.landed, landed_parity);
      landed_parity ^= 1;
      zero_rows<DIM, KEY_ROWS>(tiles.ring[next.stage], at.low, at.high);
      if (issues) mbarrier_arrive(full);
    }
    next.advance();
  }
};

// By a warp: brings pages of e4m3 to the raw ring; a head's tokens of a page lie side by side.
template <uint32_t DIM, uint32_t PAIRS>
struct BringE4M3 {
  RawRing<DIM, PAIRS>& raw;
  const PagedCache& cache;
  Place<PAIRS> next;

  DEVICE void operator()(const PagedStep& at, uint32_t kv_head, bool values) {
    constexpr uint32_t BYTES = PAGE_TOKENS * DIM;
    mbarrier_wait(raw.empty[next.stage], next.parity ^ 1);
    if (threadIdx.x % 32 == 0) {
      Mbarrier& full = raw.full[next.stage];
      raw.step[next.stage] = at;
      if (at.end()) {
        mbarrier_arrive(full);
      } else {
        const unsigned char* pool = static_cast<const unsigned char*>(values ? cache.v_pool : cache.k_pool);
        mbarrier_arrive_expect(full, STEP_PAGES * BYTES);
#pragma unroll
        for (uint32_t p = 0; p < STEP_PAGES; p++)
          bulk_load(raw.pages[next.stage][p * PAGE_TOKENS],
                    pool + (static_cast<uint64_t>(at.page[p]) * cache.kv_heads + kv_head) * BYTES, BYTES, full);
      }
    }
    __syncwarp();
    next.advance();
  }
};

// By a warp: brings queries and pages of all items of its block.
template <uint32_t DIM, uint32_t STAGES, class Bring>
DEVICE void produce(PagedTiles<DIM, STAGES>& tiles, const TensorMap& qkv, const PagedCall& call, Bring bring) {
  uint32_t q_parity = 1;
  for (uint32_t round = 0; item_of_round(round) < call.count(); round++, q_parity ^= 1) {
    const PagedItem item = call.item(item_of_round(round));
    const uint32_t kv_head = call.kv_head(item);
    mbarrier_wait(tiles.q_empty, q_parity);
    if (threadIdx.x % 32 == 0)
      bring_queries<DIM>(tiles.q, qkv, call, item, call.queries_f16 ? tiles.q_full : tiles.q_come);
    __syncwarp();
    for_steps(
      call, item, [&](const PagedStep& at) { bring(at, kv_head, false); },
      [&](const PagedStep& at) { bring(at, kv_head, true); });
  }
}

// By the finishing warps: queries in bf16 become f16 in their places, times 2^n so that the row's largest is in
// [2^15, 2^16). Elements below 2^-32 of it lose bits: at most 2^-40 of it.
template <uint32_t DIM>
DEVICE void finish_queries(Boxes<DIM, QUERY_ROWS>& q, float (&inverse)[QUERY_ROWS]) {
  constexpr uint32_t LANES = DIM / 8, ROWS = 32 / LANES;  // of a row's chunks of 16 bytes
  const uint32_t warp = threadIdx.x / 32 - 1, chunk = threadIdx.x % LANES;
#pragma unroll 2
  for (uint32_t first = warp * ROWS; first < QUERY_ROWS; first += FINISHING_WARPS * ROWS) {
    const uint32_t row = first + threadIdx.x % 32 / LANES;
    uint4& place = reinterpret_cast<uint4*>(q[chunk / 8][row])[chunk % 8 ^ row % 8];
    const uint32_t word[4] = {place.x, place.y, place.z, place.w};
    float largest = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < 4; j++)
      largest = fmaxf(largest, fmaxf(fabsf(float_of(word[j] << 16)), fabsf(float_of(word[j] & 0xffff0000u))));
#pragma unroll
    for (uint32_t step = LANES / 2; step > 0; step /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, step));
    // 2^-63 where all are smaller: the inverse times a scale is to stay a normal number.
    const uint32_t exponent = min(max(bits_of(largest) >> 23, 64u), 254u);
    const float factor = float_of((127 + 15 + 127 - exponent) << 23);
    uint32_t half[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; j++)
      half[j] = pack_pair<WgmmaFormat::f16>(factor * float_of(word[j] << 16), factor * float_of(word[j] & 0xffff0000u));
    place = make_uint4(half[0], half[1], half[2], half[3]);
    if (chunk == 0) inverse[row] = float_of((exponent - 15) << 23);
  }
  fence_proxy_async();
}

// By the finishing warps: f16 of two pages of e4m3, as lib/tma.h leaves rows: chunk c of row r at place c ^ (r % 8).
// Slots outside of [low, high) become zeros.
template <uint32_t DIM>
DEVICE void finish_pages(Boxes<DIM, KEY_ROWS>& to, const unsigned char (&from)[KEY_ROWS][DIM], uint32_t low,
                         uint32_t high) {
  constexpr uint32_t CHUNKS = DIM / 8, ROWS = 32 * FINISHING_WARPS / CHUNKS;  // in a row; rows at a time
  const uint32_t own = (threadIdx.x - 32) % CHUNKS;
#pragma unroll 4
  for (uint32_t row = (threadIdx.x - 32) / CHUNKS; row < KEY_ROWS; row += ROWS) {
    const bool seen = row >= low && row < high;
    const uint2 eight = seen ? reinterpret_cast<const uint2*>(from[row])[own] : make_uint2(0, 0);
    reinterpret_cast<uint4*>(to[own / 8][row])[own % 8 ^ row % 8] =
      make_uint4(e4m3_pair_to_f16(eight.x & 0xffffu), e4m3_pair_to_f16(eight.x >> 16),
                 e4m3_pair_to_f16(eight.y & 0xffffu), e4m3_pair_to_f16(eight.y >> 16));
  }
  fence_proxy_async();
}

// When all of a finishing warp has come.
DEVICE void arrive_by_warp(Mbarrier& barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
}

// By the finishing warps: the queries of an item.
template <uint32_t DIM, uint32_t STAGES>
DEVICE void finish_item(PagedTiles<DIM, STAGES>& tiles, uint32_t q_parity) {
  mbarrier_wait(tiles.q_come, q_parity);
  finish_queries<DIM>(tiles.q, tiles.inverse);
  arrive_by_warp(tiles.q_full);
}

// By the finishing warps: the next two pages, or the news that there are none: whether that is so.
template <uint32_t DIM, uint32_t STAGES, uint32_t PAIRS>
DEVICE bool finish_step(RawTiles<DIM, STAGES, PAIRS>& tiles, Place<PAIRS>& next_raw, Place<STAGES>& next) {
  RawRing<DIM, PAIRS>& raw = tiles.raw;
  mbarrier_wait(raw.full[next_raw.stage], next_raw.parity);
  const PagedStep at = raw.step[next_raw.stage];
  mbarrier_wait(tiles.empty[next.stage], next.parity ^ 1);
  if (threadIdx.x == 32) tiles.step[next.stage] = at.step;
  if (!at.end()) finish_pages<DIM>(tiles.ring[next.stage], raw.pages[next_raw.stage], at.low, at.high);
  arrive_by_warp(raw.empty[next_raw.stage]);
  arrive_by_warp(tiles.full[next.stage]);
  next_raw.advance();
  next.advance();
  return at.end();
}

// A thread's two queries of its item. What a step needs is computed anew from few registers: sums, scores and weights
// have most of them.
struct OwnQueries {
  const PagedCall& call;
  const ScoreScale& scores;
  const PagedItem item;
  uint32_t position[2];
  float inverse[2];  // of what the query was multiplied by

  DEVICE OwnQueries(const PagedCall& of, const PagedItem& own, const ScoreScale& by)
      : call(of), scores(by), item(own), inverse{1.0f, 1.0f} {
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) position[r] = call.position[min(row(r), item.last)];
  }

  DEVICE static uint32_t place(uint32_t r) { return thread_row() + 8 * r; }
  DEVICE uint32_t row(uint32_t r) const { return item.first + (place(r) & (call.span - 1)); }
  DEVICE uint32_t head(uint32_t r) const { return item.head + place(r) / call.span; }

  DEVICE float scale(uint32_t r) const { return scores.caps() ? scores.scale : scores.scale * inverse[r]; }
  DEVICE void cap(float (&score)[KEY_ROWS / 2]) const {
    if (!scores.caps()) return;
#pragma unroll
    for (uint32_t i = 0; i < KEY_ROWS / 2; i++) score[i] = scores.cap(score[i] * inverse[i / 2 % 2]);
  }

  // Scores of tokens that a query may not see become UNSEEN.
  DEVICE void mask(float (&score)[KEY_ROWS / 2], const PageStep& step) const {
    if (!step.masked) return;
    const uint32_t here = step.key + thread_column();
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      const uint32_t past = row(r) >= step.first && row(r) < step.end ? position[r] + 1 : 0;
      mask_row(score, r, static_cast<int32_t>(window_start(position[r], call.window) - here),
               static_cast<int32_t>(past - here));
    }
  }
};

template <uint32_t DIM, uint32_t STAGES>
DEVICE void consume(PagedTiles<DIM, STAGES>& tiles, const PagedCall& call, void* y, uint32_t output_format,
                    const ScoreScale& scores) {
  Turns<WgmmaFormat::f16, DIM, STAGES, PageStep> turns(tiles);
  for (uint32_t round = 0; item_of_round(round) < call.count(); round++) {
    const PagedItem item = call.item(item_of_round(round));
    OwnQueries own(call, item, scores);
    OnlineSoftmax softmax;
    float sum[DIM / 2];
    turns.await_queries();
#pragma unroll
    for (uint32_t r = 0; r < 2; r++)
      if (!call.queries_f16) own.inverse[r] = tiles.inverse[own.place(r)];
    turns.attend(own, softmax, sum);
    softmax.join();
#pragma unroll
    for (uint32_t r = 0; r < 2; r++)
      store_row<DIM>(y, output_format, (static_cast<uint64_t>(own.row(r)) * call.heads + own.head(r)) * DIM,
                     own.row(r) <= item.last, sum, r, softmax.inverse(r));
  }
}

// Calls produce() by the first warp, finish_item(q_parity) by the three beside it for each item, as all of a block do
// what is theirs.
template <uint32_t DIM, uint32_t STAGES, typename Produce, typename Finish>
DEVICE void attend_pages(PagedTiles<DIM, STAGES>& tiles, const PagedCall& call, void* y, uint32_t output_format,
                         const ScoreScale& scores, const Produce& produce_all, const Finish& finish) {
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<PRODUCER_REGISTERS>();
    if (threadIdx.x < 32)
      produce_all();
    else
      for (uint32_t round = 0; item_of_round(round) < call.count(); round++) {
        if (!call.queries_f16) finish_item(tiles, round % 2);
        finish();
      }
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(tiles, call, y, output_format, scores);
  }
}

template <uint32_t DIM, uint32_t STAGES>
DEVICE void attention_f16(const TensorMap& qkv, const TensorMap& k_pool, const TensorMap& v_pool, const PagedCall& call,
                          void* y, uint32_t output_format, const ScoreScale& scores) {
  using Shared = PagedTiles<DIM, STAGES>;
  DYNAMIC_SHARED(tiles, Shared);
  if (threadIdx.x == 0) {
    tiles.init(call.queries_f16 ? 1 : FINISHING_WARPS, 1);
    mbarrier_init(tiles.q_come, 1);
    mbarrier_fence_init();
  }
  attend_pages(
    tiles, call, y, output_format, scores,
    [&] { produce(tiles, qkv, call, BringF16<DIM, STAGES>{tiles, k_pool, v_pool, call.cache.kv_heads}); }, [] {});
}

template <uint32_t DIM, uint32_t STAGES, uint32_t PAIRS>
DEVICE void attention_e4m3(const TensorMap& qkv, const PagedCall& call, void* y, uint32_t output_format,
                           const ScoreScale& scores) {
  using Shared = RawTiles<DIM, STAGES, PAIRS>;
  DYNAMIC_SHARED(tiles, Shared);
  if (threadIdx.x == 0) {
    tiles.init(call.queries_f16 ? 1 : FINISHING_WARPS, FINISHING_WARPS);
    mbarrier_init(tiles.q_come, 1);
    tiles.raw.init();
    mbarrier_fence_init();
  }
  Place<PAIRS> next_raw;
  Place<STAGES> next;
  attend_pages(
    tiles, call, y, output_format, scores,
    [&] { produce(tiles, qkv, call, BringE4M3<DIM, PAIRS>{tiles.raw, call.cache}); },
    [&] {
      // Keys first, then again and again keys, or none, and the values of the keys before.
      for (bool end = finish_step(tiles, next_raw, next); !end; finish_step(tiles, next_raw, next))
        end = finish_step(tiles, next_raw, next);
    });
}

static_assert(sizeof(PagedTiles<64, 8>) == 148272 && sizeof(PagedTiles<128, 6>) == 230128);
static_assert(sizeof(RawTiles<64, 8, 4>) == 181376 && sizeof(RawTiles<128, 4, 4>) == 230400);

KERNEL_SHARED(attention_paged_wgmma_f16_64, 384, 148272, TENSOR_MAP qkv, TENSOR_MAP k_pool, TENSOR_MAP v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y,
              uint32_t queries_f16, uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads,
              uint32_t pages, uint32_t window, uint32_t span, float scale, float softcap) {
  attention_f16<64, 8>(qkv, k_pool, v_pool,
    {{nullptr, nullptr, page_table, pages, kv_heads, 64}, sequence, position, rows, heads, window, span, queries_f16},
    y, output_format, ScoreScale(scale, softcap));
}

KERNEL_SHARED(attention_paged_wgmma_f16_128, 384, 230128, TENSOR_MAP qkv, TENSOR_MAP k_pool, TENSOR_MAP v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y,
              uint32_t queries_f16, uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads,
              uint32_t pages, uint32_t window, uint32_t span, float scale, float softcap) {
  attention_f16<128, 6>(qkv, k_pool, v_pool,
    {{nullptr, nullptr, page_table, pages, kv_heads, 128}, sequence, position, rows, heads, window, span, queries_f16},
    y, output_format, ScoreScale(scale, softcap));
}

KERNEL_SHARED(attention_paged_wgmma_e4m3_64, 384, 181376, TENSOR_MAP qkv, const void* k_pool, const void* v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y,
              uint32_t queries_f16, uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads,
              uint32_t pages, uint32_t window, uint32_t span, float scale, float softcap) {
  attention_e4m3<64, 8, 4>(qkv,
    {{k_pool, v_pool, page_table, pages, kv_heads, 64}, sequence, position, rows, heads, window, span, queries_f16},
    y, output_format, ScoreScale(scale, softcap));
}

KERNEL_SHARED(attention_paged_wgmma_e4m3_128, 384, 230400, TENSOR_MAP qkv, const void* k_pool, const void* v_pool,
              const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, void* y,
              uint32_t queries_f16, uint32_t output_format, uint32_t rows, uint32_t heads, uint32_t kv_heads,
              uint32_t pages, uint32_t window, uint32_t span, float scale, float softcap) {
  attention_e4m3<128, 4, 4>(qkv,
    {{k_pool, v_pool, page_table, pages, kv_heads, 128}, sequence, position, rows, heads, window, span, queries_f16},
    y, output_format, ScoreScale(scale, softcap));
}
