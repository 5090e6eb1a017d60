// Faults with copies, mbarriers and wgmma, each beside its correct twin. All are one small product of x with itself,
// x x^T over 256 k in four steps through a ring of two stages, by a warpgroup that copies and one that multiplies.
#include "lib/tma.h"
#include "lib/wgmma.h"

enum class Fault {
  none,
  no_wait_for_copy,
  wrong_parity_of_full,
  wrong_parity_of_empty,
  no_wait_for_empty,
  release_before_wait,
  no_bytes_expected,
  bytes_past_the_copies,
  bytes_past_the_count,
  arrival_too_many,
  no_initialised_barrier,
  no_fence_of_barriers,
  copy_off_the_pattern,
  copy_past_the_end,
  copy_left_under_way,
  operand_off_the_pattern,
  operand_without_swizzle,
  operand_by_stores,
  store_over_an_operand,
  other_major,
  k_major_as_other,
  other_operands,
  no_wgmma_fence,
  sums_read_early,
  sums_written_early,
  sums_not_waited_for,
  fragment_written_early,
  store_past_the_end,
};

constexpr uint32_t ROWS = 128, DEPTH = 64, STAGES = 2, STEPS = 4, WARPS = 4;

struct Stages {
  uint16_t x[STAGES][ROWS][DEPTH];
  Mbarrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(Stages) == 32800);

template <Fault FAULT>
DEVICE void copy_steps(Stages& stages, const TensorMap& map) {
  uint16_t* first = &stages.x[0][0][0];
  for (uint32_t i = 0; i < STEPS; i++) {
    const uint32_t stage = i % STAGES, parity = i / STAGES % 2;
    const uint32_t before = FAULT == Fault::wrong_parity_of_empty ? parity : parity ^ 1;
    if (FAULT != Fault::no_wait_for_empty) mbarrier_wait(stages.empty[stage], before);
    constexpr uint32_t BYTES = sizeof stages.x[0];
    if (FAULT == Fault::no_bytes_expected)
      mbarrier_arrive(stages.full[stage]);
    else
      mbarrier_arrive_expect(stages.full[stage], FAULT == Fault::bytes_past_the_copies  ? 2 * BYTES
                                                 : FAULT == Fault::bytes_past_the_count ? 1u << 20
                                                                                        : BYTES);
    if (FAULT == Fault::arrival_too_many) mbarrier_arrive(stages.full[stage]);
    tma_load(FAULT == Fault::copy_off_the_pattern ? first + 256
             : FAULT == Fault::copy_past_the_end  ? first + STAGES * ROWS * DEPTH
                                           : first + stage * ROWS * DEPTH,
             map, i * DEPTH, 0, stages.full[stage]);
  }
  if (FAULT == Fault::copy_left_under_way) {
    mbarrier_wait(stages.empty[0], 1);
    tma_load(first, map, 0, 0, stages.full[0]);
  }
}

template <Fault FAULT>
DEVICE void multiply_steps(Stages& stages, float* y) {
  float sum[64] = {}, early = 0;
  uint32_t fragment[4] = {};
  const bool first_lane = threadIdx.x % 32 == 0;
  for (uint32_t i = 0; i < STEPS; i++) {
    const uint32_t stage = i % STAGES, parity = i / STAGES % 2;
    if (FAULT != Fault::no_wait_for_copy)
      mbarrier_wait(stages.full[stage], FAULT == Fault::wrong_parity_of_full ? parity ^ 1 : parity);
    if (FAULT != Fault::no_wgmma_fence) wgmma_fence();
    for (uint32_t k = 0; k < DEPTH; k += 16) {
      const uint64_t rows = wgmma_rows(stages.x[stage], k);
      uint64_t a = rows;
      if (FAULT == Fault::operand_off_the_pattern) a = wgmma_rows(stages.x[stage][1], k);
      if (FAULT == Fault::operand_without_swizzle)
        a = wgmma_descriptor(shared_address(stages.x[stage]) + 2 * k, 16, 1024, WgmmaSwizzle::none);
      if (FAULT == Fault::other_operands && threadIdx.x == 130) a = wgmma_rows(stages.x[stage][64], k);
      if (FAULT == Fault::k_major_as_other)
        wgmma<WgmmaFormat::bf16, WgmmaMajor::mn>(sum, a, rows, true);
      else if (FAULT == Fault::other_major)
        wgmma<WgmmaFormat::bf16>(sum, wgmma_columns(stages.x[stage], DEPTH, k), rows, true);
      else if (FAULT == Fault::fragment_written_early)
        wgmma<WgmmaFormat::bf16>(sum, fragment, rows, true);
      else
        wgmma<WgmmaFormat::bf16>(sum, a, rows, true);
    }
    if (FAULT == Fault::fragment_written_early) fragment[1] = i + 1;
    if (FAULT == Fault::store_over_an_operand && threadIdx.x == 128) stages.x[stage][3][0] ^= 1;
    if (FAULT == Fault::sums_read_early) early += sum[0];
    wgmma_commit();
    if (FAULT == Fault::sums_written_early) sum[1] = 0;
    if (FAULT == Fault::release_before_wait && first_lane) mbarrier_arrive(stages.empty[stage]);
    if (FAULT != Fault::sums_not_waited_for || i + 1 < STEPS) wgmma_wait<0>();
    if (FAULT != Fault::release_before_wait && first_lane) mbarrier_arrive(stages.empty[stage]);
  }
  for (uint32_t i = 0; i < ROWS; i++) y[threadIdx.x % 128 * ROWS + i] = sum[i % 64] + early;
}

template <Fault FAULT>
DEVICE void square(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(stages, Stages);
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < STAGES; i++) {
      if (FAULT != Fault::no_initialised_barrier) mbarrier_init(stages.full[i], 1);
      mbarrier_init(stages.empty[i], WARPS);
    }
    if (FAULT != Fault::no_fence_of_barriers) mbarrier_fence_init();
  }
  if (FAULT == Fault::store_past_the_end) reinterpret_cast<uint32_t*>(&stages + 1)[threadIdx.x == 0 ? 0 : -1] = 0;
  if (FAULT == Fault::operand_by_stores) {
    for (uint32_t i = threadIdx.x; i < STAGES * ROWS * DEPTH; i += 256) (&stages.x[0][0][0])[i] = 0;
    if (threadIdx.x == 0)
      for (uint32_t i = 0; i < STAGES; i++) mbarrier_arrive(stages.full[i]);
  }
  __syncthreads();
  if (threadIdx.x >= 128)
    multiply_steps<FAULT>(stages, y);
  else if (threadIdx.x == 0 && FAULT != Fault::operand_by_stores)
    copy_steps<FAULT>(stages, map);
}

#define FAULTY(fault)                                                                                        \
  KERNEL_SHARED(fault, 256, 32800, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::fault>(x, y); }       \
  KERNEL_SHARED(fault##_fixed, 256, 32800, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::none>(x, y); }

FAULTY(no_wait_for_copy)
FAULTY(wrong_parity_of_full)
FAULTY(wrong_parity_of_empty)
FAULTY(no_wait_for_empty)
FAULTY(release_before_wait)
FAULTY(no_bytes_expected)
FAULTY(bytes_past_the_copies)
FAULTY(bytes_past_the_count)
FAULTY(arrival_too_many)
FAULTY(no_initialised_barrier)
FAULTY(no_fence_of_barriers)
FAULTY(copy_off_the_pattern)
FAULTY(copy_past_the_end)
FAULTY(copy_left_under_way)
FAULTY(operand_off_the_pattern)
FAULTY(operand_without_swizzle)
FAULTY(operand_by_stores)
FAULTY(store_over_an_operand)
FAULTY(other_major)
FAULTY(k_major_as_other)
FAULTY(other_operands)
FAULTY(no_wgmma_fence)
FAULTY(sums_read_early)
FAULTY(sums_written_early)
FAULTY(sums_not_waited_for)
FAULTY(fragment_written_early)
FAULTY(store_past_the_end)
