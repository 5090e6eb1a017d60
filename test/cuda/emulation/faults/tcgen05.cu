// Faults with tensor memory and tcgen05, each beside its correct twin. All are one product of x with itself, x x^T over
// 256 k in four steps through a ring of two stages, done twice with the same columns for its sums: by four warps that
// store, a thread that multiplies and a thread that copies.
#include "lib/tcgen05.h"
#include "lib/tma.h"

enum class Fault {
  none,
  no_wait_for_copy,
  arrival_for_commit,
  no_commit_of_stages,
  no_wait_for_sums,
  no_fence_after_sums,
  load_not_waited_for,
  loaded_read_early,
  lanes_of_another_warp,
  columns_not_taken,
  columns_not_freed,
  columns_freed_early,
  columns_no_power_of_two,
  columns_taken_late,
  columns_taken_by_a_lane,
  no_wait_for_storing,
  no_fence_before_storing_is_told,
  no_fence_after_storing,
  product_left_under_way,
  descriptor_of_another_format,
  descriptor_of_64_rows,
  operand_off_the_pattern,
  operand_without_swizzle,
  rows_as_columns,
  scales_without_fence,
};

constexpr uint32_t ROWS = 128, DEPTH = 64, STAGES = 2, STEPS = 4, TIMES = 2, TAKEN = 128;
constexpr uint32_t MULTIPLYING_WARP = 4, COPYING_WARP = 5;

struct Stages {
  uint16_t x[STAGES][ROWS][DEPTH];
  uint32_t scales[ROWS];
  Mbarrier full[STAGES], empty[STAGES], summed, stored;
  uint32_t sums;
};
static_assert(sizeof(Stages) == 33336);

DEVICE void copy_steps(Stages& stages, const TensorMap& map) {
  for (uint32_t i = 0; i < TIMES * STEPS; i++) {
    const uint32_t stage = i % STAGES;
    mbarrier_wait(stages.empty[stage], i / STAGES % 2 ^ 1);
    mbarrier_arrive_expect(stages.full[stage], sizeof stages.x[0]);
    tma_load(stages.x[stage], map, i % STEPS * DEPTH, 0, stages.full[stage]);
  }
}

template <Fault FAULT>
DEVICE void multiply_steps(Stages& stages) {
  constexpr Tcgen05Format BF16 = Tcgen05Format::bf16;
  const uint32_t instruction = FAULT == Fault::descriptor_of_another_format
                                 ? tcgen05_instruction(Tcgen05Format::f16, ROWS, ROWS)
                                 : tcgen05_instruction(BF16, FAULT == Fault::descriptor_of_64_rows ? 64 : ROWS, ROWS);
  const uint32_t sums = stages.sums + (FAULT == Fault::columns_not_taken ? 64 : 0);
  if (FAULT == Fault::scales_without_fence) {
    for (uint32_t i = 0; i < ROWS; i++) stages.scales[i] = 0;
    tcgen05_copy_words(sums, tcgen05_words(stages.scales));
  }
  for (uint32_t i = 0; i < TIMES * STEPS; i++) {
    const uint32_t stage = i % STAGES;
    if (i % STEPS == 0) {
      if (FAULT != Fault::no_wait_for_storing) mbarrier_wait(stages.stored, i / STEPS ^ 1);
      if (FAULT != Fault::no_fence_after_storing) tcgen05_fence_after();
    }
    if (FAULT != Fault::no_wait_for_copy) mbarrier_wait(stages.full[stage], i / STAGES % 2);
    for (uint32_t k = 0; k < 128; k += TCGEN05_BYTES) {
      const uint64_t rows = tcgen05_rows(stages.x[stage], k);
      uint64_t a = rows;
      if (FAULT == Fault::operand_off_the_pattern) a = tcgen05_rows(stages.x[stage][1], k);
      if (FAULT == Fault::operand_without_swizzle)
        a = tcgen05_descriptor(shared_address(stages.x[stage]) + k, 16, 1024, Tcgen05Swizzle::none);
      const uint32_t major = FAULT == Fault::rows_as_columns ? TCGEN05_B_COLUMNS : 0;
      tcgen05_mma<BF16>(sums, a, rows, instruction | major, i % STEPS > 0 || k > 0);
    }
    if (FAULT == Fault::arrival_for_commit)
      mbarrier_arrive(stages.empty[stage]);
    else if (FAULT != Fault::no_commit_of_stages)
      tcgen05_commit(stages.empty[stage]);
    if (i % STEPS == STEPS - 1) tcgen05_commit(stages.summed);
  }
}

template <Fault FAULT>
DEVICE void store(Stages& stages, float* y) {
  const uint32_t warp = threadIdx.x / 32;
  const uint32_t lane = FAULT == Fault::lanes_of_another_warp ? (warp ^ 1) * 32 : warp * 32;
  for (uint32_t time = 0; time < TIMES; time++) {
    if (FAULT != Fault::no_wait_for_sums) mbarrier_wait(stages.summed, time);
    if (FAULT != Fault::no_fence_after_sums) tcgen05_fence_after();
    if (FAULT == Fault::columns_freed_early && warp == 0) tmem_free(stages.sums, TAKEN);
    for (uint32_t first = 0; first < ROWS; first += 32) {
      float loaded[32], early = 0;
      tmem_load(loaded, tmem_lane(stages.sums + first, lane));
      if (FAULT == Fault::loaded_read_early) early = loaded[5];
      if (FAULT != Fault::load_not_waited_for) tmem_wait(loaded);
      for (uint32_t i = 0; i < 32; i++) {
        float& to = y[threadIdx.x * ROWS + first + i];
        to = (time > 0 ? to : 0) + loaded[i] + early;
      }
    }
    if (FAULT != Fault::no_fence_before_storing_is_told) tcgen05_fence_before();
    mbarrier_arrive(stages.stored);
  }
}

template <Fault FAULT>
DEVICE void square(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(stages, Stages);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == MULTIPLYING_WARP && (FAULT != Fault::columns_taken_by_a_lane || lane == 0)) {
    if (FAULT == Fault::columns_taken_late) tmem_relinquish();
    tmem_alloc(stages.sums, FAULT == Fault::columns_no_power_of_two ? 96 : TAKEN);
    tmem_relinquish();
  }
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < STAGES; i++) {
      mbarrier_init(stages.full[i], 1);
      mbarrier_init(stages.empty[i], 1);
    }
    mbarrier_init(stages.summed, 1);
    mbarrier_init(stages.stored, 128);
    mbarrier_fence_init();
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp < 4)
    store<FAULT>(stages, y);
  else if (warp == MULTIPLYING_WARP && lane == 0)
    multiply_steps<FAULT>(stages);
  else if (warp == COPYING_WARP && lane == 0)
    copy_steps(stages, map);
  __syncthreads();
  tcgen05_fence_after();
  if (FAULT == Fault::product_left_under_way && threadIdx.x == 0)
    tcgen05_mma<Tcgen05Format::bf16>(stages.sums, tcgen05_rows(stages.x[0], 0), tcgen05_rows(stages.x[0], 0),
                                     tcgen05_instruction(Tcgen05Format::bf16, ROWS, ROWS), false);
  const bool frees = FAULT != Fault::columns_not_freed && FAULT != Fault::product_left_under_way;
  if (warp == MULTIPLYING_WARP && frees) tmem_free(stages.sums, TAKEN);
}

#define FAULTY(fault)                                                                                        \
  KERNEL_SHARED(fault, 192, 33336, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::fault>(x, y); }       \
  KERNEL_SHARED(fault##_fixed, 192, 33336, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::none>(x, y); }

FAULTY(no_wait_for_copy)
FAULTY(arrival_for_commit)
FAULTY(no_commit_of_stages)
FAULTY(no_wait_for_sums)
FAULTY(no_fence_after_sums)
FAULTY(load_not_waited_for)
FAULTY(loaded_read_early)
FAULTY(lanes_of_another_warp)
FAULTY(columns_not_taken)
FAULTY(columns_not_freed)
FAULTY(columns_freed_early)
FAULTY(columns_no_power_of_two)
FAULTY(columns_taken_late)
FAULTY(columns_taken_by_a_lane)
FAULTY(no_wait_for_storing)
FAULTY(no_fence_before_storing_is_told)
FAULTY(no_fence_after_storing)
FAULTY(product_left_under_way)
FAULTY(descriptor_of_another_format)
FAULTY(descriptor_of_64_rows)
FAULTY(operand_off_the_pattern)
FAULTY(operand_without_swizzle)
FAULTY(rows_as_columns)
FAULTY(scales_without_fence)
