// The rows that blocks of attention_backward walk on Hopper (lib/attention_walk.h): a ring of tiles in shared memory,
// with what belongs to single rows, and the sums of warpgroups on their way out.
#pragma once
#include "attention_walk.h"
#include "ring.h"

constexpr uint32_t CONSUMERS = 256;

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
  Mbarrier landed[STAGES];  // the copies have

  // By one thread, with a barrier of the block before others use it.
  DEVICE void init() {
    mbarrier_init(own_full, 1);
    mbarrier_init(own_empty, CONSUMERS / 32);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(full[s], 2);
      mbarrier_init(empty[s], CONSUMERS / 32);
      mbarrier_init(landed[s], 1);
    }
    mbarrier_fence_init();
  }
};

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
      Mbarrier& landed = ring.landed[next.stage];
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      if (issues) {
        const uint32_t first = (QUERIES ? task.call.key(step.head) : task.call.query(step.head)).first;
        const uint32_t second = QUERIES ? task.call.value(step.head).first : step.head * DIM;
        mbarrier_arrive_expect(landed, sizeof to);
        load_boxes<DIM, WALKED>(to[0], qkv, first, step.row, BOX_ROWS, landed);
        load_boxes<DIM, WALKED>(to[1], QUERIES ? qkv : dy, second, step.row, BOX_ROWS, landed);
      }
      __syncwarp();
      next.advance();
    });
    mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
    if (issues) mbarrier_arrive(ring.landed[next.stage]);
    next.advance();
  });
}

// By a warp: passes on what has come, cleared of rows that must not matter.
template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void clear_tiles(Ring<DIM, WALKED, STAGES>& ring, const Work<OWNER, Storage>& work) {
  const uint32_t lane = threadIdx.x % 32;
  Place<STAGES> next;
  const auto pass = [&] {
    __syncwarp();
    if (lane == 0) mbarrier_arrive(ring.full[next.stage]);
    next.advance();
  };
  work.for_items([&](const Task<OWNER, Storage>& task) {
    task.template for_steps<WALKED>([&](const Step& step) {
      mbarrier_wait(ring.landed[next.stage], next.parity);
      if (task.ragged(step, WALKED))
        for (auto& tile : ring.walked[next.stage])
          clear_ragged<DIM, WALKED>(tile, lane, 32, [&](uint32_t r) { return task.matters(step.row + r); });
      pass();
    });
    mbarrier_wait(ring.landed[next.stage], next.parity);
    pass();
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
    bring(Step{Step::END});
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
