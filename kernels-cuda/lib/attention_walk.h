// How a block of attention_backward owns rows of a head and walks the rows that these see, or are seen by: a ring of
// stages in shared memory, and the two warps that fill it.
#pragma once
#include "attention_boxes.h"
#include "attention_documents.h"
#include "attention_softmax.h"
#include "ring.h"

constexpr uint32_t OWN_ROWS = 128, BOX_ROWS = 64, CONSUMERS = 256;

// What a block owns rows of.
enum class Owner : uint32_t { queries, keys };

// What a stage has: rows from `row` on; or nothing, after the last. With `masked` some query may not see some key.
struct Step {
  static constexpr uint32_t END = 0xffffffffu;
  uint32_t row, masked;
};

// Of the walked rows; log_sum, which is lse in base 2, and delta where they are queries.
template <uint32_t WALKED>
struct Numbers {
  float log_sum[WALKED], delta[WALKED];
  uint32_t document[WALKED];
};

// Operands of scores (Q or K) come first, those of dp (dY or V) second.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES>
struct Ring {
  Boxes<DIM, OWN_ROWS> own[2];
  Boxes<DIM, WALKED> walked[STAGES][2];
  Numbers<WALKED> numbers[STAGES];
  Step step[STAGES];
  Mbarrier owned, full[STAGES], empty[STAGES];

  // By one thread, with a barrier of the block before others use it.
  DEVICE void init() {
    mbarrier_init(owned, 1);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(full[s], 2);
      mbarrier_init(empty[s], CONSUMERS / 32);
    }
    mbarrier_fence_init();
  }
};

// A block's part of a call: `rows` of a query head or a key head, and rows [begin, end) of each of the heads [head,
// head_end), key heads or query heads, that it walks.
template <Owner OWNER, class Storage>
struct Task {
  static constexpr bool QUERIES = OWNER == Owner::queries;
  const Dense<Storage>& call;
  const float* lse;
  const float* delta;
  BlockRows rows;
  uint32_t begin, end, head, head_end;

  DEVICE Task(const Dense<Storage>& of, const float* lse_of, const float* delta_of)
      : call(of), lse(lse_of), delta(delta_of), rows(of.sequence, QUERIES ? of.heads : of.kv_heads, QUERIES, OWN_ROWS) {
    if constexpr (QUERIES) {
      const KeyRange keys(call, rows);
      begin = keys.begin;
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

  // Do all own rows see, or are they seen by, `count` rows from `row` on, if all are of one document?
  DEVICE bool sees_all(uint32_t row, uint32_t count) const {
    const uint32_t query = QUERIES ? rows.first : row, last_query = query + (QUERIES ? OWN_ROWS : count) - 1;
    const uint32_t key = QUERIES ? row : rows.first, last_key = key + (QUERIES ? count : OWN_ROWS) - 1;
    return row + count <= end && (!call.causal || last_key <= query) &&
           (call.window == 0 || last_query < key || last_query - key < call.window);
  }

  // Calls visit(head, step) for each tile of WALKED rows, by all threads of a warp, but for those that have no document
  // in common with the own rows.
  template <uint32_t WALKED, typename Visit>
  DEVICE void for_tiles(const Visit& visit) const {
    const DocumentRange own = documents_of(call, rows.first, rows.last + 1);
    for (uint32_t h = head; h < head_end; h++)
      for (uint32_t row = begin; row < end; row += WALKED) {
        const DocumentRange other = documents_of(call, row, min(row + WALKED, end));
        if (!own.meets(other)) continue;
        visit(h, Step{row, !own.one() || !other.one() || !sees_all(row, WALKED)});
      }
  }
};

// By a warp: has the copy engine bring the own rows, then tile after tile.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_boxes(Ring<DIM, WALKED, STAGES>& ring, const TensorMap& qkv, const TensorMap& dy,
                        const Task<OWNER, Storage>& task) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  const Dense<Storage>& call = task.call;
  const bool issues = threadIdx.x % 32 == 0;
  if (issues) {
    const uint32_t head = task.rows.head, row = task.rows.first;
    const uint32_t first = (QUERIES ? call.query(head) : call.key(head)).first;
    const uint32_t second = QUERIES ? head * DIM : call.value(head).first;
    mbarrier_arrive_expect(ring.owned, sizeof ring.own);
    load_boxes<DIM, OWN_ROWS>(ring.own[0], qkv, first, row, BOX_ROWS, ring.owned);
    load_boxes<DIM, OWN_ROWS>(ring.own[1], QUERIES ? dy : qkv, second, row, BOX_ROWS, ring.owned);
  }
  Place<STAGES> next;
  task.template for_tiles<WALKED>([&](uint32_t head, const Step& step) {
    mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
    if (issues) {
      Boxes<DIM, WALKED>(&to)[2] = ring.walked[next.stage];
      Mbarrier& full = ring.full[next.stage];
      const uint32_t first = (QUERIES ? call.key(head) : call.query(head)).first;
      const uint32_t second = QUERIES ? call.value(head).first : head * DIM;
      mbarrier_arrive_expect(full, sizeof to);
      load_boxes<DIM, WALKED>(to[0], qkv, first, step.row, BOX_ROWS, full);
      load_boxes<DIM, WALKED>(to[1], QUERIES ? qkv : dy, second, step.row, BOX_ROWS, full);
    }
    __syncwarp();
    next.advance();
  });
  mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
  if (issues) mbarrier_arrive(ring.full[next.stage]);
}

// By another warp: brings steps, and what belongs to single rows of their tiles; past the end, what the last row has.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_numbers(Ring<DIM, WALKED, STAGES>& ring, const Task<OWNER, Storage>& task) {
  const uint32_t lane = threadIdx.x % 32;
  Place<STAGES> next;
  const auto bring = [&](const Step& step) {
    if (lane == 0) ring.step[next.stage] = step;
    __syncwarp();
    if (lane == 0) mbarrier_arrive(ring.full[next.stage]);
  };
  task.template for_tiles<WALKED>([&](uint32_t head, const Step& step) {
    mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
    Numbers<WALKED>& to = ring.numbers[next.stage];
#pragma unroll
    for (uint32_t i = lane; i < WALKED; i += 32) {
      const uint32_t row = min(step.row + i, task.end - 1);
      to.document[i] = task.call.document(row);
      if constexpr (OWNER == Owner::keys) {
        const uint64_t at = static_cast<uint64_t>(row) * task.call.heads + head;
        to.log_sum[i] = LOG2_E * task.lse[at];
        to.delta[i] = task.delta[at];
      }
    }
    bring(step);
    next.advance();
  });
  mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
  bring({Step::END, 0});
}
