// attention_backward with operands in bf16 or f16 and heads of 64 or 128 dims, on Blackwell. Two launches behind that
// of attention_backward_delta.cu, as on Hopper (attention_backward_wgmma.sm_90a.cu): dk and dv by items that own 128
// keys and walk the queries of all heads that share them, dq by items that own 128 queries and walk keys. An item's
// sums are one block's and grow in the order of heads and rows: the bytes are the same in every run.
//
// A step is a product of own with walked rows for scores and one for dp, S = own[0] walked[0]^T and dP = own[1]
// walked[1]^T, with own rows in lanes. A thread has half of a lane's columns: it makes p of the scores and ds of p and
// dp in registers and stores both in 16 bits to tensor memory, over what it has read, as the left operands of dV += P
// dY and dK += dS Q (of dQ += dS K). One warp multiplies, in an order in which each of the other's two halves of a step
// has two products to hide behind: S, dK of the step before | dP, dV | and so on. lib/attention_walk_tcgen05.h brings
// the rows.
//
// Tensor memory, 512 columns:      0 to 127   S; P in 0 to 31 and 64 to 95
//                                128 to 255   dP; dS in 128 to 159 and 192 to 223
//                       256 to 255 + D        dV, or dQ
//                   256 + D to 255 + 2 D      dK
//
// D = 128, a step of 128 by 128 for keys: 4 products, 2,048 cycles of tensor cores at 4,096 multiply-adds a cycle.
// Shared memory is as busy: S and dP read both operands there and the others one, 192 KB, and the copy engine writes
// 64, together 2,048 cycles of 128 bytes. 16,384 exponentials are 512 cycles of 32 a cycle, and 6 instructions a score
// 770 of four schedulers. L2 gives 64 KB, 32 bytes a cycle of about 64. For queries 3 products, 1,536 cycles, and 224
// KB of shared memory, 1,792. D = 64: 1,024 (shared memory the same) and 768 (896) cycles, with the same exponentials
// and instructions, so that halves of a step are uneven: about 1,200 and 1,000. 4,096 causal rows of 32 heads of 128
// dims are 16,896 steps: 0.23 ms at 1.9 GHz on 148 multiprocessors, 1.5 PFLOP/s of the five products that others count,
// if nothing waits. ds kept between the launches, as on Hopper, would be 32 KB written and read for a step, 1,150
// cycles of memory each: a sixth less time at D = 128, and more at 64.
#include <type_traits>

#include "lib/attention_weighing.h"

constexpr uint32_t WEIGHING_WARPS = 8, TENSOR_COLUMNS = 512;
constexpr uint32_t COPYING_WARP = 8, MULTIPLYING_WARP = 9, NUMBERING_WARP = 10, OWNING_WARP = 11;

template <uint32_t DIM, uint32_t STAGES>
struct Shared {
  Steps<DIM, STAGES> steps;
  // S and dP are there; P and dS are; an item's sums are; they are read.
  Mbarrier scored, compared, weighed, graded, summed, drained;
  uint32_t tensor_memory;
};

// sums (+)= left times rows of `right`: left as `store_weights` leaves it, each warpgroup's columns from a multiple of
// 64 on.
template <Tcgen05Format FORMAT, uint32_t DIM>
DEVICE void add_weighted(uint32_t sums, uint32_t left, const Boxes<DIM, WALKED_ROWS>& right, bool add) {
#pragma unroll
  for (uint32_t k = 0; k < WALKED_ROWS; k += 16)
    tcgen05_mma_ts<FORMAT>(sums, left + k / OWN_COLUMNS * OWN_COLUMNS + k % OWN_COLUMNS / 2,
                           tcgen05_columns(right, sizeof right[0], k),
                           tcgen05_instruction(FORMAT, OWN_ROWS, DIM) | TCGEN05_B_COLUMNS, add || k > 0);
}

template <Tcgen05Format FORMAT, uint32_t DIM>
DEVICE void multiply_rows(uint32_t scores, const Boxes<DIM, OWN_ROWS>& own, const Boxes<DIM, WALKED_ROWS>& walked) {
#pragma unroll
  for (uint32_t d = 0; d < DIM; d += 16)
    tcgen05_mma<FORMAT>(scores, tcgen05_rows(own[d / BOX_DIMS], d % BOX_DIMS * 2),
                        tcgen05_rows(walked[d / BOX_DIMS], d % BOX_DIMS * 2),
                        tcgen05_instruction(FORMAT, OWN_ROWS, WALKED_ROWS), d > 0);
}

// By a warp, of which one lane issues. Products run in the order of their issue, also where one writes what the one
// before reads: the next S over P, the next dP over dS.
template <Tcgen05Format FORMAT, uint32_t DIM, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void multiply(Shared<DIM, STAGES>& shared, const Work<OWNER, Storage>& work) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  constexpr uint32_t DS_SUMS = QUERIES ? SUMS : SUMS + DIM;
  Steps<DIM, STAGES>& steps = shared.steps;
  const bool issues = threadIdx.x % 32 == 0;
  const uint32_t memory = shared.tensor_memory;
  Place<STAGES> next;
  Place<STEPS> next_step;
  uint32_t own_parity = 0, parity = 0, drained_parity = 1;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    RaggedStep step;
    const auto take_step = [&] {
      step = steps.take(next_step);
      if (issues) mbarrier_arrive(steps.step_empty[next_step.stage]);
      next_step.advance();
    };
    // The next tile of a step, without rows that must not matter.
    const auto take_rows = [&] {
      const uint32_t stage = next.stage;
      mbarrier_wait(steps.full[stage], next.parity);
      if (step.ragged)
        clear_ragged<DIM, WALKED_ROWS>(steps.ring[stage], threadIdx.x % 32, 32,
                                       [&](uint32_t r) { return task.matters(step.row + r); });
      __syncwarp();
      next.advance();
      return stage;
    };
    mbarrier_wait(steps.own_full, own_parity);
    own_parity ^= 1;
    take_step();
    uint32_t held = 0;  // the stage of the last step's first tile
    for (uint32_t done = 0;; done++) {
      const bool more = step.row != Step::END;
      uint32_t first = 0;
      if (more) {
        first = take_rows();
        if (issues) {
          multiply_rows<FORMAT, DIM>(memory, steps.own[0], steps.ring[first]);
          tcgen05_commit(shared.scored);
        }
      }
      if (done > 0) {
        mbarrier_wait(shared.graded, parity ^ 1);
        tcgen05_fence_after();
        if (issues) {
          add_weighted<FORMAT, DIM>(memory + DS_SUMS, memory + DP, steps.ring[held], done > 1);
          tcgen05_commit(steps.empty[held]);
          if (!more) {
            tcgen05_commit(steps.own_empty);
            tcgen05_commit(shared.summed);
          }
        }
      } else if (!more && issues) {
        mbarrier_arrive(steps.own_empty);
      }
      if (!more) break;
      const uint32_t second = take_rows();
      if (issues) {
        multiply_rows<FORMAT, DIM>(memory + DP, steps.own[1], steps.ring[second]);
        tcgen05_commit(shared.compared);
        if (QUERIES) tcgen05_commit(steps.empty[second]);
      }
      if (done == 0) {
        mbarrier_wait(shared.drained, drained_parity);
        drained_parity ^= 1;
      }
      // For queries: the scores have been read.
      mbarrier_wait(shared.weighed, parity);
      tcgen05_fence_after();
      if (!QUERIES && issues) {
        add_weighted<FORMAT, DIM>(memory + SUMS, memory, steps.ring[second], done > 0);
        tcgen05_commit(steps.empty[second]);
      }
      held = first;
      parity ^= 1;
      take_step();
    }
  });
}

template <WgmmaFormat FORMAT, uint32_t DIM, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void weigh(Shared<DIM, STAGES>& shared, const Work<OWNER, Storage>& work, void* dqkv, uint32_t out_bits,
                  float scale, float softcap) {
  using Weigh = Weighing<FORMAT, OWNER, Storage>;
  const Weigh thread(shared.tensor_memory, {scale, softcap});
  Steps<DIM, STAGES>& steps = shared.steps;
  Place<STEPS> next;
  uint32_t parity = 0, summed_parity = 0;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    const OwnRow row(work, task);
    bool any = false;
    for (;; parity ^= 1, next.advance()) {
      const Step step = steps.take(next);
      if (step.row == Step::END) break;
      any = true;
      const Numbers& numbers = steps.numbers[next.stage];
      const bool plain = !step.masked && thread.scale.slope == 0.0f;
      typename Weigh::Weights weight;
      mbarrier_wait(shared.scored, parity);
      tcgen05_fence_after();
      if (plain)
        thread.template weigh<true>(weight, task, step, numbers, row);
      else
        thread.template weigh<false>(weight, task, step, numbers, row);
      thread.tell(shared.weighed);
      mbarrier_wait(shared.compared, parity);
      tcgen05_fence_after();
      if (plain)
        thread.template grade<true>(weight, numbers, row);
      else
        thread.template grade<false>(weight, numbers, row);
      thread.tell(shared.graded);
      if (threadIdx.x % 32 == 0) mbarrier_arrive(steps.step_empty[next.stage]);
    }
    if (threadIdx.x % 32 == 0) mbarrier_arrive(steps.step_empty[next.stage]);
    next.advance();
    if (any) {
      mbarrier_wait(shared.summed, summed_parity);
      summed_parity ^= 1;
      tcgen05_fence_after();
    }
    thread.template store<DIM>(task, row, any, dqkv, out_bits, scale);
    if (any) thread.tell(shared.drained);
  });
}

template <Owner OWNER, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void backward(const TensorMap& qkv, const TensorMap& dy, const Work<OWNER, Storage>& work, float scale,
                     float softcap, void* dqkv, uint32_t out_bits) {
  constexpr bool BF = std::is_same_v<Storage, BF16>;
  using Memory = Shared<DIM, STAGES>;
  DYNAMIC_SHARED(shared, Memory);
  const uint32_t warp = threadIdx.x / 32;
  if (warp == MULTIPLYING_WARP) {
    tmem_alloc(shared.tensor_memory, TENSOR_COLUMNS);
    tmem_relinquish();
  }
  if (threadIdx.x == 0) {
    for (Mbarrier* barrier : {&shared.scored, &shared.compared, &shared.summed}) mbarrier_init(*barrier, 1);
    for (Mbarrier* barrier : {&shared.weighed, &shared.graded, &shared.drained})
      mbarrier_init(*barrier, WEIGHING_WARPS);
    shared.steps.init(WEIGHING_WARPS + 1);
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp < WEIGHING_WARPS) {
    constexpr WgmmaFormat FORMAT = BF ? WgmmaFormat::bf16 : WgmmaFormat::f16;
    weigh<FORMAT>(shared, work, dqkv, out_bits, scale, softcap);
  } else if (warp == COPYING_WARP) {
    bring_rows(shared.steps, qkv, dy, work);
  } else if (warp == MULTIPLYING_WARP) {
    multiply<BF ? Tcgen05Format::bf16 : Tcgen05Format::f16>(shared, work);
  } else if (warp == NUMBERING_WARP) {
    bring_steps(shared.steps, work);
  } else if (threadIdx.x == OWNING_WARP * 32) {
    bring_own<DIM>(shared.steps, qkv, dy, work);
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp == MULTIPLYING_WARP) tmem_free(shared.tensor_memory, TENSOR_COLUMNS);
}

static_assert(sizeof(Shared<64, 8>) == 166152 && sizeof(Shared<128, 5>) == 231640);

KERNEL_SHARED(attention_backward_tcgen05_key_64_bf16, 384, 166152, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, BF16, 64, 8>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_query_64_bf16, 384, 166152, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, BF16, 64, 8>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_key_128_bf16, 384, 231640, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, BF16, 128, 5>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_query_128_bf16, 384, 231640, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, BF16, 128, 5>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_key_64_f16, 384, 166152, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, F16, 64, 8>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_query_64_f16, 384, 166152, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, F16, 64, 8>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_key_128_f16, 384, 231640, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, F16, 128, 5>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_tcgen05_query_128_f16, 384, 231640, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, F16, 128, 5>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}
