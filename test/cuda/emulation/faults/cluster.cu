// Faults between the blocks of a cluster, each beside its correct twin: two blocks, each of which copies half of every
// box to both, and multiplies the whole with itself as in async.cu.
#include "lib/cluster.h"
#include "lib/wgmma.h"

enum class Fault {
  none,
  no_sync_before,
  no_sync_after,
  released_to_oneself_only,
  copy_by_one_block_only,
  block_outside_the_cluster,
};

constexpr uint32_t ROWS = 128, DEPTH = 64, STAGES = 2, STEPS = 4, WARPS = 4, BLOCKS = 2;

struct Stages {
  uint16_t x[STAGES][ROWS][DEPTH];
  Mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(Stages) == 32800);

template <Fault FAULT>
DEVICE void square(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(stages, Stages);
  constexpr bool ALONE = FAULT == Fault::released_to_oneself_only;
  const uint32_t rank = cluster_rank(), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < STAGES; i++) {
      mbarrier_init(stages.full[i], 1);
      mbarrier_init(stages.empty[i], ALONE ? WARPS : WARPS * BLOCKS);
    }
    mbarrier_fence_init();
  }
  if (FAULT == Fault::no_sync_before)
    __syncthreads();
  else
    cluster_sync();
  if (threadIdx.x == 0)
    for (uint32_t i = 0; i < STEPS; i++) {
      const uint32_t stage = i % STAGES;
      mbarrier_wait(stages.empty[stage], i / STAGES % 2 ^ 1);
      mbarrier_arrive_expect(stages.full[stage], sizeof stages.x[0]);
      if (FAULT == Fault::copy_by_one_block_only && rank == 1) continue;
      tma_load_shared(stages.x[stage][rank * ROWS / BLOCKS], map, i * DEPTH, rank * ROWS / BLOCKS,
                      stages.full[stage], FAULT == Fault::block_outside_the_cluster ? 7 : 3);
    }
  if (threadIdx.x >= 128) {
    float sum[64] = {};
    for (uint32_t i = 0; i < STEPS; i++) {
      const uint32_t stage = i % STAGES;
      mbarrier_wait(stages.full[stage], i / STAGES % 2);
      wgmma_fence();
      for (uint32_t k = 0; k < DEPTH; k += 16)
        wgmma<WgmmaFormat::bf16>(sum, wgmma_rows(stages.x[stage][rank * 64], k), wgmma_rows(stages.x[stage], k), true);
      wgmma_commit();
      // The first block is slower than the second.
      if (rank == 0 && i == 0)
        for (uint32_t turn = 0; turn < 50; turn++) __nanosleep(20);
      wgmma_wait<0>();
      if (ALONE ? lane == 0 : lane < BLOCKS) mbarrier_arrive_at(stages.empty[stage], ALONE ? rank : lane);
    }
    for (uint32_t i = 0; i < 64; i++) y[(rank * 128 + threadIdx.x % 128) * 64 + i] = sum[i];
  }
  if (FAULT != Fault::no_sync_after) cluster_sync();
}

#define FAULTY(fault)                                                                                            \
  KERNEL_CLUSTER(fault, 256, 32800, 2, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::fault>(x, y); }       \
  KERNEL_CLUSTER(fault##_fixed, 256, 32800, 2, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::none>(x, y); }

FAULTY(no_sync_before)
FAULTY(no_sync_after)
FAULTY(released_to_oneself_only)
FAULTY(copy_by_one_block_only)
FAULTY(block_outside_the_cluster)
