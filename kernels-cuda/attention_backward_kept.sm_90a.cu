// The rest of attention_backward where attention_backward_wgmma has kept ds (lib/attention_walk.h): dq = scale ds k, a
// product over the keys that queries see. Its left operand lies key by key, so it is read along queries.
//
// 128 queries by 128 keys, D dims: 1 product, 8 D cycles of tensor cores, 1,024 for D = 128, and 32 KB of ds from
// memory, which has 20 bytes a cycle for each of 132 multiprocessors. So memory limits: 4,096 causal rows of 32 heads
// have 16,896 such tiles, 0.55 GB, 0.12 ms at 4.8 TB/s; tensor cores would take 0.07, and 0.21 for the walk that this
// replaces. The walk before writes as much in its 0.29 ms of tensor cores, 1.9 TB/s.
#include <type_traits>

#include "lib/attention_walk_wgmma.h"
#include "lib/barrier.h"
#include "lib/warpgroup.h"

constexpr uint32_t WARPGROUP = 128, WARPGROUP_ROWS = 64;
constexpr uint32_t CLEARED = 1;  // a barrier of the consumers

template <uint32_t DIM, uint32_t STAGES>
struct KeptRing {
  Boxes<OWN_ROWS, OWN_ROWS> ds[STAGES];  // rows of keys
  Boxes<DIM, OWN_ROWS> k[STAGES];
  Step step[STAGES];
  Mbarrier full[STAGES], empty[STAGES];
};

// By a warp.
template <uint32_t DIM, uint32_t STAGES, class Storage>
DEVICE void bring(KeptRing<DIM, STAGES>& ring, const TensorMap& qkv, const TensorMap& kept,
                  const Work<Owner::queries, Storage>& work) {
  const bool issues = threadIdx.x % 32 == 0;
  Place<STAGES> next;
  work.for_items([&](const Task<Owner::queries, Storage>& task) {
    const uint32_t start = task.rows.start, kept_row = task.kept_row(task.rows.head);
    const uint32_t column = task.call.key(task.head).first;
    const auto put = [&](const Step& step) {
      Mbarrier& full = ring.full[next.stage];
      mbarrier_wait(ring.empty[next.stage], next.parity ^ 1);
      if (issues) {
        ring.step[next.stage] = step;
        if (step.row == Step::END) {
          mbarrier_arrive(full);
        } else {
          mbarrier_arrive_expect(full, sizeof ring.ds[0] + sizeof ring.k[0]);
          load_boxes<OWN_ROWS, OWN_ROWS>(ring.ds[next.stage], kept, task.rows.first - start,
                                         kept_row + step.row - start, BOX_ROWS, full);
          load_boxes<DIM, OWN_ROWS>(ring.k[next.stage], qkv, column, step.row, BOX_ROWS, full);
        }
      }
      __syncwarp();
      next.advance();
    };
    task.template for_steps<OWN_ROWS>(put);
    put(Step{Step::END});
  });
}

template <uint32_t DIM, uint32_t STAGES, class Storage>
DEVICE void multiply(KeptRing<DIM, STAGES>& ring, const Work<Owner::queries, Storage>& work, float scale, void* dqkv,
                     uint32_t out_bits) {
  constexpr WgmmaFormat FORMAT = std::is_same_v<Storage, BF16> ? WgmmaFormat::bf16 : WgmmaFormat::f16;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, warpgroup = warp / 4 - 1;
  Place<STAGES> next;
  work.for_items([&](const Task<Owner::queries, Storage>& task) {
    float sum[DIM / 2] = {};
    for (;; next.advance()) {
      const uint32_t stage = next.stage;
      mbarrier_wait(ring.full[stage], next.parity);
      const Step step = ring.step[stage];
      if (step.row == Step::END) break;
      if (task.ragged(step, OWN_ROWS)) {
        clear_ragged<DIM, OWN_ROWS>(ring.k[stage], threadIdx.x - WARPGROUP, CONSUMERS,
                                    [&](uint32_t r) { return task.matters(step.row + r); });
        barrier_sync(CLEARED, CONSUMERS);
      }
      wgmma_fence();
#pragma unroll
      for (uint32_t key = 0; key < OWN_ROWS; key += 16)
        wgmma<FORMAT, WgmmaMajor::mn, WgmmaMajor::mn>(sum, wgmma_columns(ring.ds[stage][warpgroup], OWN_ROWS, key),
                                                      wgmma_columns(ring.k[stage], OWN_ROWS, key), true);
      wgmma_commit();
      wgmma_wait<0>();
      if (lane == 0) mbarrier_arrive(ring.empty[stage]);
    }
    __syncwarp();  // all lanes have read the step
    if (lane == 0) mbarrier_arrive(ring.empty[next.stage]);
    next.advance();
    store_sums<FORMAT, DIM>(dqkv, out_bits, work.call.width(), work.call.query(task.rows.head).first, sum, scale,
                            task.rows.first + warpgroup * WARPGROUP_ROWS + warp % 4 * 16 + lane / 4, task.rows.last);
  });
}

template <class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void backward(const TensorMap& qkv, const TensorMap& kept, const Work<Owner::queries, Storage>& work,
                     float scale, void* dqkv, uint32_t out_bits) {
  using Stages = KeptRing<DIM, STAGES>;
  DYNAMIC_SHARED(ring, Stages);
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(ring.full[s], 1);
      mbarrier_init(ring.empty[s], CONSUMERS / 32);
    }
    mbarrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<40>();
    if (threadIdx.x / 32 == 0) bring(ring, qkv, kept, work);
  } else {
    registers_take<232>();
    multiply(ring, work, scale, dqkv, out_bits);
  }
}

static_assert(sizeof(KeptRing<64, 4>) == 196720 && sizeof(KeptRing<128, 3>) == 196696);

KERNEL_SHARED(attention_backward_kept_64_bf16, 384, 196720, TENSOR_MAP qkv, TENSOR_MAP kept,
              OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<BF16, 64, 4>(qkv, kept, {call, nullptr, nullptr, items}, scale, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_kept_128_bf16, 384, 196696, TENSOR_MAP qkv, TENSOR_MAP kept,
              OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<BF16, 128, 3>(qkv, kept, {call, nullptr, nullptr, items}, scale, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_kept_64_f16, 384, 196720, TENSOR_MAP qkv, TENSOR_MAP kept,
              OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<F16, 64, 4>(qkv, kept, {call, nullptr, nullptr, items}, scale, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_kept_128_f16, 384, 196696, TENSOR_MAP qkv, TENSOR_MAP kept,
              OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<F16, 128, 3>(qkv, kept, {call, nullptr, nullptr, items}, scale, dqkv, out_bits);
}
