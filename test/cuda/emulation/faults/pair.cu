// Faults of two blocks that multiply together, each beside its correct twin: the product of x, in both blocks, with
// itself, of which each brings half of the right operand, over 256 k in four steps through a ring of two stages, done
// twice with the same columns for its sums.
#include "lib/tcgen05.h"

enum class Fault {
  none,
  columns_before_both_started,
  one_block_takes_columns,
  columns_for_one_block,
  issued_by_second_block,
  commit_to_one_block,
  second_block_not_waited_for,
  half_not_brought,
  bytes_for_own_barrier,
  second_block_still_stores,
  rows_of_one_block,
  columns_of_one_block,
  pair_of_one,
};

constexpr uint32_t ROWS = 128, DEPTH = 64, STAGES = 2, STEPS = 4, TIMES = 2, TAKEN = 128, PAIR = 2;
constexpr uint32_t MULTIPLYING_WARP = 4, COPYING_WARP = 5;

struct Stages {
  uint16_t a[STAGES][ROWS][DEPTH], b[STAGES][ROWS][DEPTH];
  Mbarrier full[STAGES], empty[STAGES], summed, stored;
  uint32_t sums;
};
static_assert(sizeof(Stages) == 65592);

// Of a box of b, only the first 64 rows are the block's half.
template <Fault FAULT>
DEVICE void copy_steps(Stages& stages, const TensorMap& map, uint32_t rank) {
  constexpr bool APART = FAULT == Fault::second_block_not_waited_for || FAULT == Fault::bytes_for_own_barrier;
  constexpr bool MISSING = FAULT == Fault::half_not_brought;
  for (uint32_t i = 0; i < TIMES * STEPS; i++) {
    const uint32_t stage = i % STAGES, bytes = sizeof stages.a[0];
    Mbarrier& full = stages.full[stage];
    mbarrier_wait(stages.empty[stage], i / STAGES % 2 ^ 1);
    const uint32_t expected = FAULT == Fault::second_block_not_waited_for ? 2 : MISSING ? 3 : 4;
    if (rank == 0 || FAULT == Fault::second_block_not_waited_for) mbarrier_arrive_expect(full, expected * bytes);
    if (APART) {
      tma_load(stages.a[stage], map, i % STEPS * DEPTH, 0, full);
      tma_load(stages.b[stage], map, i % STEPS * DEPTH, rank * ROWS / 2, full);
    } else {
      tma_load_pair(stages.a[stage], map, i % STEPS * DEPTH, 0, full);
      if (!MISSING || rank == 0) tma_load_pair(stages.b[stage], map, i % STEPS * DEPTH, rank * ROWS / 2, full);
    }
  }
}

template <Fault FAULT>
DEVICE void multiply_steps(Stages& stages) {
  constexpr Tcgen05Format BF16 = Tcgen05Format::bf16;
  const uint32_t instruction = tcgen05_instruction(BF16, FAULT == Fault::rows_of_one_block ? ROWS : PAIR * ROWS,
                                                   FAULT == Fault::columns_of_one_block ? 48 : ROWS);
  for (uint32_t i = 0; i < TIMES * STEPS; i++) {
    const uint32_t stage = i % STAGES;
    if (i % STEPS == 0) mbarrier_wait(stages.stored, i / STEPS ^ 1);
    // No bytes ever count for the second block's.
    if (FAULT != Fault::issued_by_second_block) mbarrier_wait(stages.full[stage], i / STAGES % 2);
    tcgen05_fence_after();
    for (uint32_t k = 0; k < 128; k += TCGEN05_BYTES)
      tcgen05_mma<BF16, PAIR>(stages.sums, tcgen05_rows(stages.a[stage], k), tcgen05_rows(stages.b[stage], k),
                              instruction, i % STEPS > 0 || k > 0);
    if (FAULT == Fault::commit_to_one_block)
      tcgen05_commit(stages.empty[stage]);
    else
      tcgen05_commit<PAIR>(stages.empty[stage]);
    if (i % STEPS == STEPS - 1) tcgen05_commit<PAIR>(stages.summed);
  }
}

template <Fault FAULT>
DEVICE void store(Stages& stages, float* y, uint32_t rank) {
  const uint32_t warp = threadIdx.x / 32;
  for (uint32_t time = 0; time < TIMES; time++) {
    mbarrier_wait(stages.summed, time);
    tcgen05_fence_after();
    // The second block is slower than the first.
    if (rank == 1)
      for (uint32_t turn = 0; turn < 50; turn++) __nanosleep(20);
    for (uint32_t first = 0; first < ROWS; first += 32) {
      float loaded[32];
      tmem_load(loaded, tmem_lane(stages.sums + first, warp * 32));
      tmem_wait(loaded);
      for (uint32_t i = 0; i < 32; i++) {
        float& to = y[(rank * ROWS + threadIdx.x) * ROWS + first + i];
        to = (time > 0 ? to : 0) + loaded[i];
      }
    }
    tcgen05_fence_before();
    if (FAULT != Fault::second_block_still_stores || rank == 0) mbarrier_arrive_at(stages.stored, 0);
  }
}

template <Fault FAULT>
DEVICE void square(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(stages, Stages);
  constexpr uint32_t TAKEN_FOR = FAULT == Fault::columns_for_one_block ? 1 : PAIR;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, rank = cluster_rank();
  const bool takes = warp == MULTIPLYING_WARP && (FAULT != Fault::one_block_takes_columns || rank == 0);
  if (FAULT != Fault::columns_before_both_started) cluster_sync();
  if (takes) {
    tmem_alloc<TAKEN_FOR>(stages.sums, TAKEN);
    tmem_relinquish<TAKEN_FOR>();
  }
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < STAGES; i++) {
      mbarrier_init(stages.full[i], 1);
      mbarrier_init(stages.empty[i], 1);
    }
    mbarrier_init(stages.summed, 1);
    mbarrier_init(stages.stored, FAULT == Fault::second_block_still_stores ? 128 : PAIR * 128);
    mbarrier_fence_init();
  }
  tcgen05_fence_before();
  cluster_sync();
  tcgen05_fence_after();
  if (warp < 4)
    store<FAULT>(stages, y, rank);
  else if (warp == MULTIPLYING_WARP && lane == 0 && rank == (FAULT == Fault::issued_by_second_block ? 1 : 0))
    multiply_steps<FAULT>(stages);
  else if (warp == COPYING_WARP && lane == 0)
    copy_steps<FAULT>(stages, map, rank);
  tcgen05_fence_before();
  cluster_sync();
  tcgen05_fence_after();
  if (takes) tmem_free<TAKEN_FOR>(stages.sums, TAKEN);
}

#define TWIN(fault)                                                                   \
  KERNEL_CLUSTER(fault##_fixed, 192, 65592, 2, TENSOR_MAP x, float* y, uint32_t n) {  \
    square<Fault::none>(x, y);                                                        \
  }
#define FAULTY(fault)                                                                                              \
  KERNEL_CLUSTER(fault, 192, 65592, 2, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::fault>(x, y); }         \
  TWIN(fault)

FAULTY(columns_before_both_started)
FAULTY(one_block_takes_columns)
FAULTY(columns_for_one_block)
FAULTY(issued_by_second_block)
FAULTY(commit_to_one_block)
FAULTY(second_block_not_waited_for)
FAULTY(half_not_brought)
FAULTY(bytes_for_own_barrier)
FAULTY(second_block_still_stores)
FAULTY(rows_of_one_block)
FAULTY(columns_of_one_block)
KERNEL_SHARED(pair_of_one, 192, 65592, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::pair_of_one>(x, y); }
TWIN(pair_of_one)
