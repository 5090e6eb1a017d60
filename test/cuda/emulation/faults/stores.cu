// Faults with boxes that the copy engine stores, each beside its correct twin: a warp fills two boxes in turn and has
// them stored over x's first 16 rows and 64 columns.
#include "lib/tma.h"

enum class Fault {
  none,
  no_fence_of_stores,
  box_filled_too_early,
  box_copied_over,
  box_off_the_pattern,
  stores_not_waited_for,
  stores_not_committed,
};

constexpr uint32_t ROWS = 16, COLUMNS = 64, TIMES = 4;

struct Boxes {
  uint16_t box[2][ROWS][COLUMNS];
  Mbarrier arrived;
};
static_assert(sizeof(Boxes) == 4104);

template <Fault FAULT>
DEVICE void store(const TensorMap& map, float* y) {
  DYNAMIC_SHARED(boxes, Boxes);
  if (threadIdx.x == 0) {
    mbarrier_init(boxes.arrived, 1);
    mbarrier_fence_init();
  }
  for (uint32_t time = 0; time < TIMES; time++) {
    uint16_t* box = &boxes.box[time % 2][0][0];
    if (threadIdx.x == 0 && FAULT != Fault::box_filled_too_early) tma_store_wait_read<1>();
    __syncwarp();
    for (uint32_t i = threadIdx.x; i < ROWS * COLUMNS; i += 32) box[i] = static_cast<uint16_t>(time + i);
    if (FAULT != Fault::no_fence_of_stores) fence_proxy_async();
    __syncwarp();
    if (threadIdx.x == 0) {
      tma_store(map, 0, 0, FAULT == Fault::box_off_the_pattern ? box + 256 : box);
      if (FAULT != Fault::stores_not_committed) tma_store_commit();
      if (FAULT == Fault::box_copied_over) {
        mbarrier_arrive_expect(boxes.arrived, sizeof boxes.box[0]);
        tma_load(box, map, 0, 0, boxes.arrived);
      }
    }
  }
  if (threadIdx.x == 0 && FAULT != Fault::stores_not_waited_for) tma_store_wait_read<0>();
  y[threadIdx.x] = 1;
}

#define FAULTY(fault)                                                                                     \
  KERNEL_SHARED(fault, 32, 4104, TENSOR_MAP x, float* y, uint32_t n) { store<Fault::fault>(x, y); }       \
  KERNEL_SHARED(fault##_fixed, 32, 4104, TENSOR_MAP x, float* y, uint32_t n) { store<Fault::none>(x, y); }

FAULTY(no_fence_of_stores)
FAULTY(box_filled_too_early)
FAULTY(box_copied_over)
FAULTY(box_off_the_pattern)
FAULTY(stores_not_waited_for)
FAULTY(stores_not_committed)
