// How blocks of attention_backward own rows of a head and walk the rows that these see, or are seen by. The walked rows
// come as each architecture wants them: lib/attention_walk_wgmma.h, lib/attention_walk_tcgen05.h.
#pragma once
#include "attention_boxes.h"
#include "attention_documents.h"
#include "attention_softmax.h"

constexpr uint32_t OWN_ROWS = 128, BOX_ROWS = 64;

// What a block owns rows of.
enum class Owner : uint32_t { queries, keys };

// What a stage has: rows of a head from `row` on, where with `masked` some query may not see some key; or the end of an
// item.
struct Step {
  static constexpr uint32_t END = 0xffffffffu;
  uint32_t row, head, masked;
};

// Where ds is kept: for each query head of each of the call's blocks and each key a row of the queries, both padded to
// whole tiles.
DEVICE uint32_t kept_pitch(uint32_t sequence) { return (sequence + OWN_ROWS - 1) / OWN_ROWS * OWN_ROWS; }

// An item of the call's `items`: a block does one at a time. It owns `rows` of a query head or a key head, and walks
// rows [begin, end) of each of the heads [head, head_end), key heads or query heads, in tiles from the first row of the
// call's block on. The longest items come first.
template <Owner OWNER, class Storage>
struct Task {
  static constexpr bool QUERIES = OWNER == Owner::queries;
  const Dense<Storage>& call;
  BlockRows rows;
  uint32_t begin, end, head, head_end;

  DEVICE static BlockRows rows_of(const Dense<Storage>& call, uint32_t item, uint32_t items) {
    const uint32_t tiles = (call.sequence + OWN_ROWS - 1) / OWN_ROWS, units = items / tiles, tile = item / units;
    return {call.sequence, QUERIES ? call.heads : call.kv_heads, item % units, QUERIES ? tiles - 1 - tile : tile,
            OWN_ROWS};
  }

  DEVICE Task(const Dense<Storage>& of, uint32_t item, uint32_t items) : call(of), rows(rows_of(of, item, items)) {
    if constexpr (QUERIES) {
      const KeyRange keys(call, rows);
      begin = rows.start + (keys.begin - rows.start) / OWN_ROWS * OWN_ROWS;
      end = keys.end;
      head = rows.head / call.sharing();
      head_end = head + 1;
    } else {
      begin = call.causal ? rows.first : rows.start;
      end = call.window > 0 && call.window < rows.end - rows.last ? rows.last + call.window : rows.end;
      head = rows.head * call.sharing();
      head_end = head + call.sharing();
    }
  }

  DEVICE bool visible(uint32_t own, uint32_t walked, uint32_t own_document, uint32_t walked_document) const {
    return QUERIES ? call.visible(own, walked, own_document, walked_document)
                   : call.visible(walked, own, walked_document, own_document);
  }

  // The first row of a query head of this block in what is kept.
  DEVICE uint32_t kept_row(uint32_t query_head) const {
    return (rows.start / call.sequence * call.heads + query_head) * kept_pitch(call.sequence);
  }

  // Do all own rows see, or are they seen by, `count` rows from `row` on, if all are of one document?
  DEVICE bool sees_all(uint32_t row, uint32_t count) const {
    const uint32_t query = QUERIES ? rows.first : row, last_query = query + (QUERIES ? OWN_ROWS : count) - 1;
    const uint32_t key = QUERIES ? row : rows.first, last_key = key + (QUERIES ? count : OWN_ROWS) - 1;
    return row + count <= end && rows.first + OWN_ROWS <= rows.end && (!call.causal || last_key <= query) &&
           (call.window == 0 || last_query < key || last_query - key < call.window);
  }

  // Whether a walked row is one of the call's block and no padding; and whether one of `count` rows may be neither.
  DEVICE bool matters(uint32_t row) const { return row < rows.end && call.document(row) != PADDING; }
  DEVICE bool ragged(const Step& step, uint32_t count) const {
    return step.masked && (call.documents != nullptr || step.row + count > rows.end);
  }

  // Calls visit(step) for WALKED rows at a time of each tile of OWN_ROWS, by all threads of a warp, but for tiles that
  // have no document in common with the own rows. So a tile of queries and keys is walked from both sides or neither.
  template <uint32_t WALKED, typename Visit>
  DEVICE void for_steps(const Visit& visit) const {
    const DocumentRange own = documents_of(call, rows.first, rows.last + 1);
    for (uint32_t h = head; h < head_end; h++)
      for (uint32_t tile = begin; tile < end; tile += OWN_ROWS) {
        const uint32_t past = min(tile + OWN_ROWS, rows.end);
        const DocumentRange other = documents_of(call, tile, past);
        if (!own.meets(other)) continue;
        for (uint32_t row = tile; row < past; row += WALKED)
          visit(Step{row, h, !own.one() || !other.one() || !sees_all(row, WALKED)});
      }
  }
};

// What all items have in common.
template <Owner OWNER, class Storage>
struct Work {
  const Dense<Storage>& call;
  const float* lse;
  const float* delta;
  uint32_t items;

  // Calls visit(task) for each item of this block. Blocks take turns, in every other round backwards, so that all have
  // about as much to do.
  template <typename Visit>
  DEVICE void for_items(const Visit& visit) const {
    for (uint32_t first = 0, turn = blockIdx.x; first < items; first += gridDim.x, turn = gridDim.x - 1 - turn)
      if (first + turn < items) visit(Task<OWNER, Storage>(call, first + turn, items));
  }
};

// Makes row r of a tile zeros where matters(r) is false: what lies there may be no number, which a weight of 0 would
// not keep out of sums. By `threads` threads, this one being `thread`; each makes what it has stored known, and a
// barrier of theirs comes before products.
template <uint32_t DIM, uint32_t ROWS, typename Matters>
DEVICE void clear_ragged(Boxes<DIM, ROWS>& tile, uint32_t thread, uint32_t threads, const Matters& matters) {
#pragma unroll 1
  for (uint32_t r = thread; r < ROWS; r += threads) {
    if (matters(r)) continue;
#pragma unroll 1
    for (uint32_t i = 0; i < DIM; i += 8)
      *reinterpret_cast<uint4*>(&tile[i / BOX_DIMS][r][i % BOX_DIMS]) = make_uint4(0, 0, 0, 0);
  }
  fence_proxy_async();
}

// By a thread: has the copy engine bring the own rows of each item.
template <uint32_t DIM, class Ring, Owner OWNER, class Storage>
DEVICE void bring_own(Ring& ring, const TensorMap& qkv, const TensorMap& dy, const Work<OWNER, Storage>& work) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  uint32_t parity = 1;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    const uint32_t head = task.rows.head, row = task.rows.first;
    const uint32_t first = (QUERIES ? task.call.query(head) : task.call.key(head)).first;
    const uint32_t second = QUERIES ? head * DIM : task.call.value(head).first;
    mbarrier_wait(ring.own_empty, parity);
    mbarrier_arrive_expect(ring.own_full, sizeof ring.own);
    load_boxes<DIM, OWN_ROWS>(ring.own[0], qkv, first, row, BOX_ROWS, ring.own_full);
    load_boxes<DIM, OWN_ROWS>(ring.own[1], QUERIES ? dy : qkv, second, row, BOX_ROWS, ring.own_full);
    parity ^= 1;
  });
}
