// How a persistent attention forward goes through its work: tiles of 128 queries that walk the keys they may see, and
// the warp that has the copy engine bring both.
#pragma once
#include "attention_documents.h"
#include "attention_ring.h"
#include "cluster.h"

// What a stage has: keys, or values, from row `key` on; or nothing, after the last keys of an item.
struct Step {
  static constexpr uint32_t END = 0xffffffffu;
  uint32_t key;
  uint32_t documents;  // whether the tile's queries and keys may be of several documents
};

template <uint32_t DIM, uint32_t STAGES>
using Tiles = KeyRing<DIM, STAGES, Step>;

// How the call is cut: tiles of `span` rows, as many as a box has, of 128 / span heads that share keys. Pairs of a
// block and such heads are units; `section` of them run together.
struct Cut {
  uint32_t rows, span, section;
};

// What a block does at a time: rows `first` to `last` of heads from `head` on, keys from `begin` to `end`.
struct Item {
  uint32_t first, last, head, begin, end;
};

template <class Storage>
struct Items {
  const Dense<Storage>& call;
  Cut cut;
  uint32_t heads, packs, tiles, units;  // heads of a tile, tiles' heads of a block
  DEVICE Items(const Dense<Storage>& of, const Cut& by)
      : call(of),
        cut(by),
        heads(QUERY_ROWS / by.span),
        packs(of.heads / heads),
        tiles((of.sequence + by.span - 1) / by.span),
        units(by.rows / of.sequence * packs) {}
  DEVICE uint32_t count() const { return tiles * units; }
  // With causal masks the last tiles take longest. They come first in the last section, last in the one before, and so
  // on: sections meet at tiles of one length, and the shortest are left for the end.
  DEVICE Item at(uint32_t i) const {
    const uint32_t section = i / (cut.section * tiles), within = i - section * cut.section * tiles;
    const uint32_t before = section * cut.section, width = min(cut.section, units - before);
    const bool longest_first = ((units - 1) / cut.section - section) % 2 == 0;
    const uint32_t unit = before + within % width, step = within / width;
    const uint32_t tile = longest_first ? tiles - 1 - step : step;
    const uint32_t start = unit / packs * call.sequence, end = start + call.sequence;
    const uint32_t first = start + tile * cut.span, past = min(first + cut.span, end);
    return {first, past - 1, unit % packs * heads,
            call.window > 0 && first - start >= call.window ? first + 1 - call.window : start,
            call.causal ? past : end};
  }
};

// By one warp: brings what the consumers wait for, in their order. That is the first keys, then again and again the
// next keys, or the news that there are none, and the values of the keys before.
//
// BLOCKS of a cluster have items of the same keys, of other heads that share them: each brings its part to all.
template <uint32_t BLOCKS = 1, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void produce(Tiles<DIM, STAGES>& tiles, const TensorMap& qkv, const Items<Storage>& items) {
  const Dense<Storage>& call = items.call;
  constexpr uint32_t ALL = (1u << BLOCKS) - 1;
  const bool issues = threadIdx.x % 32 == 0;
  // Rows of a box, and the first of a step that this block brings.
  const uint32_t box = min(items.cut.span, KEY_ROWS / BLOCKS), part = blockIdx.x % BLOCKS * (KEY_ROWS / BLOCKS);
  Place<STAGES> next;
  uint32_t q_parity = 1, landed_parity = 0;
  // Of values, rows from `past` on must not matter.
  const auto bring = [&](const Step& step, uint32_t column, uint32_t past = KEY_ROWS) {
    Mbarrier& full = tiles.full[next.stage];
    mbarrier_wait(tiles.empty[next.stage], next.parity ^ 1);
    if (issues) {
      tiles.step[next.stage] = step;
      if (step.key == Step::END) {
        mbarrier_arrive(full);
      } else {
        Mbarrier& come = past < KEY_ROWS ? tiles.landed : full;
        mbarrier_arrive_expect(come, sizeof tiles.ring[0]);
        for (uint32_t r = part; r < part + KEY_ROWS / BLOCKS; r += box)
          for (uint32_t d = 0; d < DIM / BOX_DIMS; d++)
            if constexpr (BLOCKS == 1)
              tma_load(tiles.ring[next.stage][d][r], qkv, column + d * BOX_DIMS, step.key + r, come);
            else
              tma_load_shared(tiles.ring[next.stage][d][r], qkv, column + d * BOX_DIMS, step.key + r, come, ALL);
      }
    }
    __syncwarp();
    if (past < KEY_ROWS) {
      mbarrier_wait(tiles.landed, landed_parity);
      landed_parity ^= 1;
      zero_rows<DIM, KEY_ROWS>(tiles.ring[next.stage], 0, past);
      if (issues) mbarrier_arrive(full);
    }
    next.advance();
  };
  if (issues) tma_prefetch(qkv);
  for (uint32_t round = 0; item_of_round(round, BLOCKS) < items.count(); round++, q_parity ^= 1) {
    const Item item = items.at(item_of_round(round, BLOCKS));
    const uint32_t kv_head = item.head / call.sharing(), k = call.key(kv_head).first, v = call.value(kv_head).first;
    // Rows of the next block; the copy engine makes zeros of those past the call's end.
    const uint32_t block_end = (item.first / call.sequence + 1) * call.sequence;
    const auto bring_values = [&](const Step& step) {
      bring(step, v, block_end < items.cut.rows ? min(block_end - step.key, KEY_ROWS) : KEY_ROWS);
    };
    mbarrier_wait(tiles.q_empty, q_parity);
    if (issues) {
      mbarrier_arrive_expect(tiles.q_full, sizeof tiles.q);
      for (uint32_t d = 0; d < DIM / BOX_DIMS; d++)
        for (uint32_t r = 0; r < QUERY_ROWS; r += box)
          tma_load(tiles.q[d][r], qkv, (item.head + r / items.cut.span) * DIM + d * BOX_DIMS,
                   item.first + r % items.cut.span, tiles.q_full);
    }
    __syncwarp();
    const DocumentRange own = documents_of(call, item.first, item.last + 1);
    Step before = {Step::END, 0};
    for (uint32_t key = item.begin; key < item.end; key += KEY_ROWS) {
      const DocumentRange other = documents_of(call, key, min(key + KEY_ROWS, item.end));
      if (!own.meets(other)) continue;
      const Step step = {key, own.one() && other.one() ? 0u : 1u};
      bring(step, k);
      if (before.key != Step::END) bring_values(before);
      before = step;
    }
    bring({Step::END, 0}, k);
    if (before.key != Step::END) bring_values(before);
  }
}
