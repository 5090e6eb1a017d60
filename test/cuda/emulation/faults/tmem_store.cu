// Faults with what threads store to tensor memory as a left operand, each beside its correct twin. All are x x^T over
// the first 64 columns of x, twice on top of each other: four warps store their rows of x, a thread of another multiplies
// these by the tile they come from.
#include "lib/tcgen05.h"
#include "lib/tma.h"

enum class Fault {
  none,
  store_not_waited_for,
  store_never_waited_for,
  no_fence_before_stores_are_told,
  no_fence_after_stores,
  no_commit_of_product,
  no_fence_after_product,
  store_to_lanes_of_another_warp,
  store_to_columns_not_taken,
  store_to_loaded_columns,
  left_operand_not_stored,
  left_operand_in_another_lane,
};

constexpr uint32_t ROWS = 128, DEPTH = 64, WORDS = DEPTH / 2, TIMES = 2, TAKEN = 256, LEFT = 128;
constexpr uint32_t MULTIPLYING_WARP = 4;
constexpr Tcgen05Format BF16 = Tcgen05Format::bf16;

struct Tile {
  uint16_t x[ROWS][DEPTH];
  Mbarrier arrived, stored, multiplied;
  uint32_t sums;
};
static_assert(sizeof(Tile) == 16416);

template <Fault FAULT>
DEVICE void multiply(Tile& tile) {
  for (uint32_t time = 0; time < TIMES; time++) {
    mbarrier_wait(tile.stored, time);
    if (FAULT != Fault::no_fence_after_stores) tcgen05_fence_after();
    uint32_t left = tile.sums + LEFT + (FAULT == Fault::left_operand_not_stored ? WORDS : 0);
    if (FAULT == Fault::left_operand_in_another_lane) left = tmem_lane(left, 32);
    for (uint32_t k = 0; k < DEPTH; k += 16)
      tcgen05_mma_ts<BF16>(tile.sums, left + k / 2, tcgen05_rows(tile.x, 2 * k), tcgen05_instruction(BF16, ROWS, ROWS),
                           time > 0 || k > 0);
    if (FAULT == Fault::no_commit_of_product)
      mbarrier_arrive(tile.multiplied);
    else
      tcgen05_commit(tile.multiplied);
  }
}

template <Fault FAULT>
DEVICE void store(Tile& tile, float* y) {
  const uint32_t row = threadIdx.x, warp = row / 32;
  const uint32_t lane = FAULT == Fault::store_to_lanes_of_another_warp ? (warp ^ 1) * 32 : warp * 32;
  const uint32_t left = tmem_lane(tile.sums + LEFT + (FAULT == Fault::store_to_columns_not_taken ? 128 : 0), lane);
  mbarrier_wait(tile.arrived, 0);
  for (uint32_t time = 0; time < TIMES; time++) {
    if (time > 0) mbarrier_wait(tile.multiplied, time - 1);
    if (FAULT != Fault::no_fence_after_product) tcgen05_fence_after();
    float loaded[16];
    if (FAULT == Fault::store_to_loaded_columns) tmem_load(loaded, left);
    for (uint32_t first = 0; first < WORDS; first += 16) {
      uint32_t words[16];
      for (uint32_t i = 0; i < 16; i++) {
        const uint32_t k = 2 * (first + i), place = (k / 8 ^ row % 8) * 8 + k % 8;
        words[i] = tile.x[row][place] | tile.x[row][place + 1] << 16;
      }
      tmem_store(left + first, words);
    }
    if (FAULT == Fault::store_to_loaded_columns) tmem_wait(loaded);
    const bool waits = FAULT != Fault::store_not_waited_for && FAULT != Fault::store_never_waited_for;
    if (waits) tmem_wait_stores();
    if (FAULT != Fault::no_fence_before_stores_are_told) tcgen05_fence_before();
    // Nobody multiplies what nobody waits for.
    if (FAULT == Fault::store_never_waited_for) return;
    mbarrier_arrive(tile.stored);
  }
  mbarrier_wait(tile.multiplied, TIMES - 1);
  tcgen05_fence_after();
  for (uint32_t first = 0; first < ROWS; first += 32) {
    float sum[32];
    tmem_load(sum, tmem_lane(tile.sums + first, warp * 32));
    tmem_wait(sum);
    for (uint32_t i = 0; i < 32; i++) y[row * ROWS + first + i] = sum[i];
  }
  tcgen05_fence_before();
}

template <Fault FAULT>
DEVICE void square(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(tile, Tile);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == MULTIPLYING_WARP) {
    tmem_alloc(tile.sums, TAKEN);
    tmem_relinquish();
  }
  if (threadIdx.x == 0) {
    mbarrier_init(tile.arrived, 1);
    mbarrier_init(tile.stored, 128);
    mbarrier_init(tile.multiplied, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(tile.arrived, sizeof tile.x);
    tma_load(tile.x, map, 0, 0, tile.arrived);
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp < 4)
    store<FAULT>(tile, y);
  else if (lane == 0 && FAULT != Fault::store_never_waited_for)
    multiply<FAULT>(tile);
  __syncthreads();
  tcgen05_fence_after();
  if (warp == MULTIPLYING_WARP) tmem_free(tile.sums, TAKEN);
}

#define FAULTY(fault)                                                                                        \
  KERNEL_SHARED(fault, 160, 16416, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::fault>(x, y); }       \
  KERNEL_SHARED(fault##_fixed, 160, 16416, TENSOR_MAP x, float* y, uint32_t n) { square<Fault::none>(x, y); }

FAULTY(store_not_waited_for)
FAULTY(store_never_waited_for)
FAULTY(no_fence_before_stores_are_told)
FAULTY(no_fence_after_stores)
FAULTY(no_commit_of_product)
FAULTY(no_fence_after_product)
FAULTY(store_to_lanes_of_another_warp)
FAULTY(store_to_columns_not_taken)
FAULTY(store_to_loaded_columns)
FAULTY(left_operand_not_stored)
FAULTY(left_operand_in_another_lane)
