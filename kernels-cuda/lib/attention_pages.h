// How attention over the paged cache goes through its work on tensor cores: tiles of 128 queries, the runs of rows of
// one sequence in each, and the warp that brings pages of keys and values for a run after the other.
#pragma once
#include "attention_ring.h"
#include "paged.h"

constexpr uint32_t STEP_PAGES = KEY_ROWS / PAGE_TOKENS;

// What a stage has: tokens from `key` on, of two pages, for rows `first` to `end` of the call; or nothing, after the
// last tokens of a tile.
struct PageStep {
  static constexpr uint32_t END = 0xffffffffu;
  uint32_t key, first, end;
  uint32_t masked;  // whether some query of the tile may not see some of the tokens
};

// Where a step's tokens lie. Of the stage's rows, those from `low` to `high` - 1 are seen by some query of the run; the
// others may hold anything.
struct PagedStep {
  PageStep step;
  uint32_t page[STEP_PAGES], low, high;
  DEVICE bool end() const { return step.key == PageStep::END; }
  DEVICE bool whole() const { return low == 0 && high == KEY_ROWS; }
};

// What a block does at a time: rows `first` to `last` of heads from `head` on, which share keys.
struct PagedItem {
  uint32_t first, last, head;
};

// A call, and its cut into tiles of `span` rows, as many as a box has, of 128 / span heads.
struct PagedCall {
  PagedCache cache;
  const uint32_t *sequence, *position;
  uint32_t rows, heads, window, span;
  uint32_t queries_f16;  // else bf16

  DEVICE uint32_t heads_of_tile() const { return QUERY_ROWS / span; }
  DEVICE uint32_t kv_head(const PagedItem& item) const { return item.head / (heads / cache.kv_heads); }
  DEVICE uint32_t count() const { return (rows + span - 1) / span * (heads / heads_of_tile()); }
  // The last rows of a growing sequence see the most tokens; they come first.
  DEVICE PagedItem item(uint32_t i) const {
    const uint32_t packs = heads / heads_of_tile(), first = (rows - 1) / span * span - i / packs * span;
    return {first, min(first + span, rows) - 1, i % packs * heads_of_tile()};
  }
};

// Rows `first` to `end` - 1, which follow each other in one sequence, and the least and most of their positions.
struct Run {
  uint32_t sequence, first, end, nearest, farthest;
};

// By a warp: the run of rows that begins at `first`, of rows up to `last`.
DEVICE Run run_from(const PagedCall& call, uint32_t first, uint32_t last) {
  Run run = {call.sequence[first], first, first, 0xffffffffu, 0};
  for (uint32_t more = 32; more == 32 && run.end <= last; run.end += more) {
    const uint32_t row = run.end + threadIdx.x % 32;
    const uint32_t others = __ballot_sync(FULL_WARP, row > last || call.sequence[row] != run.sequence);
    more = others == 0 ? 32 : __ffs(static_cast<int>(others)) - 1;
    if (threadIdx.x % 32 < more) {
      run.nearest = min(run.nearest, call.position[row]);
      run.farthest = max(run.farthest, call.position[row]);
    }
  }
#pragma unroll
  for (uint32_t step = 16; step > 0; step /= 2) {
    run.nearest = min(run.nearest, __shfl_xor_sync(FULL_WARP, run.nearest, step));
    run.farthest = max(run.farthest, __shfl_xor_sync(FULL_WARP, run.farthest, step));
  }
  return run;
}

// By a warp: what the consumers wait for, in their order. keys(step) brings the first keys, then again and again the
// next keys, or the news that there are none; values(step) the values of the keys before.
template <typename Keys, typename Values>
DEVICE void for_steps(const PagedCall& call, const PagedItem& item, const Keys& keys, const Values& values) {
  constexpr uint32_t HELD = 32 / STEP_PAGES;  // steps whose pages a warp looks up at once
  PagedStep before = {{PageStep::END, 0, 0, 0}, {}, 0, KEY_ROWS};
  for (uint32_t row = item.first; row <= item.last;) {
    const Run run = run_from(call, row, item.last);
    row = run.end;
    if (run.sequence == PADDING_ROW) continue;
    const uint32_t* table = call.cache.page_table + static_cast<uint64_t>(run.sequence) * call.cache.pages;
    const uint32_t low = window_start(run.nearest, call.window), last_page = run.farthest / PAGE_TOKENS;
    // Tokens before this one are behind the window of some query of the run.
    const uint32_t behind = window_start(run.farthest, call.window);
    const bool all_rows = run.first == item.first && run.end == item.last + 1;
    uint32_t held = 0;
    for (uint32_t i = 0, page = low / PAGE_TOKENS; page <= last_page; i++, page += STEP_PAGES) {
      // The last page stands for one behind it, whose tokens nobody sees either.
      if (i % HELD == 0) held = table[min(page + threadIdx.x % 32, last_page)];
      const uint32_t key = page * PAGE_TOKENS;
      const bool all_tokens = key + KEY_ROWS - 1 <= run.nearest && key >= behind;
      PagedStep at = {{key, run.first, run.end, all_rows && all_tokens ? 0u : 1u}, {},
                      low > key ? low - key : 0u, min(run.farthest + 1 - key, KEY_ROWS)};
#pragma unroll
      for (uint32_t p = 0; p < STEP_PAGES; p++)
        at.page[p] = __shfl_sync(FULL_WARP, held, i % HELD * STEP_PAGES + p);
      keys(at);
      if (!before.end()) values(before);
      before = at;
    }
  }
  keys(PagedStep{{PageStep::END, 0, 0, 0}, {}, 0, KEY_ROWS});
  if (!before.end()) values(before);
}

// By a thread: has the copy engine bring the queries of an item; rows past the call's last become zeros.
template <uint32_t DIM>
DEVICE void bring_queries(Boxes<DIM, QUERY_ROWS>& q, const TensorMap& qkv, const PagedCall& call, const PagedItem& item,
                          Mbarrier& come) {
  mbarrier_arrive_expect(come, sizeof q);
  for (uint32_t d = 0; d < DIM / BOX_DIMS; d++)
    for (uint32_t h = 0; h < call.heads_of_tile(); h++)
      tma_load(q[d][h * call.span], qkv, (item.head + h) * DIM + d * BOX_DIMS, item.first, come);
}
