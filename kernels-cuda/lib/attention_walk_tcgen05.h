// The rows that blocks of attention_backward walk on Blackwell (lib/attention_walk.h), in shared memory: steps with
// what belongs to single rows, and a ring of tiles, two for each step, as the second one is free again long before the
// first.
#pragma once
#include "attention_walk.h"
#include "ring.h"

constexpr uint32_t WALKED_ROWS = 128, STEPS = 2;

// Of walked queries: lse in base 2, and delta.
struct Numbers {
  float log_sum[WALKED_ROWS], delta[WALKED_ROWS];
};

// Whether some of the step's rows are padding or lie past the end of the call's block.
struct RaggedStep : Step {
  bool ragged;
};

// Operands of scores (Q or K) come first, those of dp (dY or V) second.
template <uint32_t DIM, uint32_t STAGES>
struct Steps {
  Boxes<DIM, OWN_ROWS> own[2];
  Boxes<DIM, WALKED_ROWS> ring[STAGES];
  Numbers numbers[STEPS];
  RaggedStep step[STEPS];
  Mbarrier own_full, own_empty, full[STAGES], empty[STAGES], step_full[STEPS], step_empty[STEPS];

  // By one thread, with a barrier of the block before others use it; `readers` warps read each step.
  DEVICE void init(uint32_t readers) {
    mbarrier_init(own_full, 1);
    mbarrier_init(own_empty, 1);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(full[s], 1);
      mbarrier_init(empty[s], 1);
    }
    for (uint32_t s = 0; s < STEPS; s++) {
      mbarrier_init(step_full[s], 1);
      mbarrier_init(step_empty[s], readers);
    }
    mbarrier_fence_init();
  }

  // By a warp: the step at a place, when it is there. All lanes have read it then.
  DEVICE RaggedStep take(const Place<STEPS>& at) {
    mbarrier_wait(step_full[at.stage], at.parity);
    const RaggedStep taken = step[at.stage];
    __syncwarp();
    return taken;
  }
};

// By a warp: has the copy engine bring the tiles of step after step.
template <uint32_t DIM, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_rows(Steps<DIM, STAGES>& steps, const TensorMap& qkv, const TensorMap& dy,
                       const Work<OWNER, Storage>& work) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  const bool issues = threadIdx.x % 32 == 0;
  Place<STAGES> next;
  const auto bring = [&](const TensorMap& from, uint32_t column, uint32_t row) {
    Mbarrier& full = steps.full[next.stage];
    mbarrier_wait(steps.empty[next.stage], next.parity ^ 1);
    if (issues) {
      mbarrier_arrive_expect(full, sizeof steps.ring[0]);
      load_boxes<DIM, WALKED_ROWS>(steps.ring[next.stage], from, column, row, BOX_ROWS, full);
    }
    __syncwarp();
    next.advance();
  };
  work.for_items([&](const Task<OWNER, Storage>& task) {
    task.template for_steps<WALKED_ROWS>([&](const Step& step) {
      bring(qkv, (QUERIES ? task.call.key(step.head) : task.call.query(step.head)).first, step.row);
      bring(QUERIES ? qkv : dy, QUERIES ? task.call.value(step.head).first : step.head * DIM, step.row);
    });
  });
}

// By a warp: brings steps and their numbers; past the end, those of the last row.
template <uint32_t DIM, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void bring_steps(Steps<DIM, STAGES>& steps, const Work<OWNER, Storage>& work) {
  const uint32_t lane = threadIdx.x % 32;
  Place<STEPS> next;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    const auto bring = [&](const Step& step) {
      mbarrier_wait(steps.step_empty[next.stage], next.parity ^ 1);
      if constexpr (OWNER == Owner::keys) {
        Numbers& to = steps.numbers[next.stage];
#pragma unroll
        for (uint32_t i = lane; i < WALKED_ROWS && step.row != Step::END; i += 32) {
          const uint64_t at = static_cast<uint64_t>(min(step.row + i, task.end - 1)) * task.call.heads + step.head;
          to.log_sum[i] = LOG2_E * work.lse[at];
          to.delta[i] = work.delta[at];
        }
      }
      bool ragged = false;
      if (step.row != Step::END && task.ragged(step, WALKED_ROWS))
        for (uint32_t i = lane; i < WALKED_ROWS; i += 32) ragged |= !task.matters(step.row + i);
      ragged = __any_sync(FULL_WARP, ragged);
      if (lane == 0) steps.step[next.stage] = {step, ragged};
      __syncwarp();
      if (lane == 0) mbarrier_arrive(steps.step_full[next.stage]);
      next.advance();
    };
    task.template for_steps<WALKED_ROWS>(bring);
    bring(Step{Step::END});
  });
}
