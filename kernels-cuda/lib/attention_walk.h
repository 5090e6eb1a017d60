// How blocks of attention_backward own rows of a head and walk the rows that these see, or are seen by: who does what,
// the rows in shared memory, and the warps that bring them.
#pragma once
#include "attention_boxes.h"
#include "attention_documents.h"
#include "attention_softmax.h"
#include "ring.h"

constexpr uint32_t OWN_ROWS = 128, BOX_ROWS = 64, CONSUMERS = 256;

// What a block owns rows of.
enum class Owner : uint32_t { queries, keys };

// What a stage has: rows of a head from `row` on, where with `masked` some query may not see some key; or the end of an
// item.
struct Step {
  static constexpr uint32_t END = 0xffffffffu;
  uint32_t row, head, masked;
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
  Mbarrier own_full, own_empty, full[STAGES], empty[STAGES];

  // By one thread, with a barrier of the block before others use it.
  DEVICE void init() {
    mbarrier_init(own_full, 1);
    mbarrier_init(own_empty, CONSUMERS / 32);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(full[s], 2);
      mbarrier_init(empty[s], CONSUMERS / 32);
    }
    mbarrier_fence_init();
  }
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

// By a thread: has the copy engine bring the own rows of each item.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_own(Ring<DIM, WALKED, STAGES>& ring, const TensorMap& qkv, const TensorMap& dy,
                      const Work<OWNER, Storage>& work) {
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

// By a warp: has the copy engine bring tile after tile.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_tiles(Ring<DIM, WALKED, STAGES>& ring, const TensorMap& qkv, const TensorMap& dy,
                        const Work<OWNER, Storage>& work) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  const bool issues = threadIdx.x % 32 == 0;
  Place<STAGES> next;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    task.template for_steps<WALKED>([&](const Step& step) {
      Boxes<DIM, WALKED>(&to)[2] = ring.walked[next.stage];
      Mbarrier& full = ring.full[next.stage];
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      if (issues) {
        const uint32_t first = (QUERIES ? task.call.key(step.head) : task.call.query(step.head)).first;
        const uint32_t second = QUERIES ? task.call.value(step.head).first : step.head * DIM;
        mbarrier_arrive_expect(full, sizeof to);
        load_boxes<DIM, WALKED>(to[0], qkv, first, step.row, BOX_ROWS, full);
        load_boxes<DIM, WALKED>(to[1], QUERIES ? qkv : dy, second, step.row, BOX_ROWS, full);
      }
      __syncwarp();
      next.advance();
    });
    mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
    if (issues) mbarrier_arrive(ring.full[next.stage]);
    next.advance();
  });
}

// By a warp: brings steps, and what belongs to single rows of their tiles; past the end, what the last row has.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_numbers(Ring<DIM, WALKED, STAGES>& ring, const Work<OWNER, Storage>& work) {
  const uint32_t lane = threadIdx.x % 32;
  Place<STAGES> next;
  const auto bring = [&](const Step& step) {
    if (lane == 0) ring.step[next.stage] = step;
    __syncwarp();
    if (lane == 0) mbarrier_arrive(ring.full[next.stage]);
    next.advance();
  };
  work.for_items([&](const Task<OWNER, Storage>& task) {
    task.template for_steps<WALKED>([&](const Step& step) {
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      Numbers<WALKED>& to = ring.numbers[next.stage];
#pragma unroll
      for (uint32_t i = lane; i < WALKED; i += 32) {
        const uint32_t row = min(step.row + i, task.end - 1);
        to.document[i] = task.call.document(row);
        if constexpr (OWNER == Owner::keys) {
          const uint64_t at = static_cast<uint64_t>(row) * task.call.heads + step.head;
          to.log_sum[i] = LOG2_E * work.lse[at];
          to.delta[i] = work.delta[at];
        }
      }
      bring(step);
    });
    mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
    bring({Step::END, 0, 0});
  });
}

// Stores a thread's sums, times `scale`, in columns of `out` from `column` on; of its two rows those up to `last`.
template <WgmmaFormat FORMAT, uint32_t DIM>
DEVICE void store_sums(void* out, uint32_t out_bits, uint32_t width, uint32_t column, const float (&sum)[DIM / 2],
                       float scale, uint32_t row, uint32_t last) {
  const uint32_t t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t half = 0; half < 2; half++) {
    const bool exists = row + 8 * half <= last;
    const uint64_t at = static_cast<uint64_t>(row + 8 * half) * width + column;
#pragma unroll
    for (uint32_t i = 2 * half; i < DIM / 2; i += 16) {
      float2 v[4];
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) v[j] = make_float2(scale * sum[i + 4 * j], scale * sum[i + 4 * j + 1]);
      if (out_bits == 32) {
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
          if (exists) static_cast<float2*>(out)[(at + i / 4 * 8 + 8 * j) / 2 + t] = v[j];
      } else {
        const uint4 chunk = gather_chunk(pack_pair<FORMAT>(v[0].x, v[0].y), pack_pair<FORMAT>(v[1].x, v[1].y),
                                         pack_pair<FORMAT>(v[2].x, v[2].y), pack_pair<FORMAT>(v[3].x, v[3].y));
        if (exists) static_cast<uint4*>(out)[(at + i / 4 * 8) / 8 + t] = chunk;
      }
    }
  }
}
