// What is asynchronous, piece by piece: async.test.ts says what each must give.
#include "lib/barrier.h"
#include "lib/bulk.h"
#include "lib/cluster.h"
#include "lib/progress.h"
#include "lib/warpgroup.h"

struct Box {
  uint32_t words[64][32];
  Mbarrier arrived;
};
static_assert(sizeof(Box) == 8200);

// Copies a box of 64 rows of 64 elements and gives its bytes as they lie in shared memory.
KERNEL_SHARED(copy_box, 32, 8200, TENSOR_MAP map, uint32_t* y, uint32_t column, uint32_t row) {
  DYNAMIC_SHARED(box, Box);
  if (threadIdx.x == 0) {
    mbarrier_init(box.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(box.arrived, sizeof box.words);
    tma_load(box.words, map, column, row, box.arrived);
  }
  __syncthreads();
  mbarrier_wait(box.arrived, 0);
  for (uint32_t r = 0; r < 64; r++) y[r * 32 + threadIdx.x] = box.words[r][threadIdx.x];
}

// Copies `bytes` from byte `first` of x on.
KERNEL_SHARED(copy_bytes, 32, 8200, const uint32_t* x, uint32_t* y, uint32_t first, uint32_t bytes) {
  DYNAMIC_SHARED(box, Box);
  if (threadIdx.x == 0) {
    mbarrier_init(box.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(box.arrived, bytes);
    bulk_load(box.words[1], x + first / 4, bytes, box.arrived);
  }
  __syncthreads();
  mbarrier_wait(box.arrived, 0);
  for (uint32_t i = threadIdx.x; i < bytes / 4; i += 32) y[i] = box.words[1 + i / 32][i % 32];
}

// Stores a box of 16 rows of 32 floats, 100 r + c, swizzled, or adds it to what is there. `seen` is the first element
// of the matrix when the box has been read, and when it has been stored.
KERNEL_SHARED(store_box, 32, 2048, TENSOR_MAP map, const float* matrix, float* seen, uint32_t column, uint32_t row,
              uint32_t add) {
  DYNAMIC_SHARED(box, float[16][32]);
  for (uint32_t i = threadIdx.x; i < 16 * 32; i += 32) {
    const uint32_t r = i / 32, c = i % 32;
    box[r][(c / 4 ^ r % 8) * 4 + c % 4] = static_cast<float>(100 * r + c);
  }
  fence_proxy_async();
  __syncwarp();
  if (threadIdx.x > 0) return;
  if (add != 0)
    tma_store_add(map, column, row, box);
  else
    tma_store(map, column, row, box);
  tma_store_commit();
  tma_store_wait_read<0>();
  seen[0] = matrix[0];
  tma_store_wait<0>();
  seen[1] = matrix[0];
}

// Phases: y[i] counts what thread 0 has written before thread 32 + i saw phase i end.
KERNEL_SHARED(phases, 64, 16, uint32_t* y) {
  DYNAMIC_SHARED(barriers, Mbarrier[2]);
  SHARED(written, uint32_t[1]);
  if (threadIdx.x == 0) {
    mbarrier_init(barriers[0], 1);
    mbarrier_init(barriers[1], 32);
    mbarrier_fence_init();
    written[0] = 0;
  }
  __syncthreads();
  if (threadIdx.x == 0)
    for (uint32_t phase = 0; phase < 6; phase++) {
      mbarrier_wait(barriers[1], phase % 2 ^ 1);
      written[0] = phase + 1;
      mbarrier_arrive(barriers[0]);
    }
  if (threadIdx.x >= 32)
    for (uint32_t phase = 0; phase < 6; phase++) {
      mbarrier_wait(barriers[0], phase % 2);
      if (threadIdx.x == 32 + phase) y[phase] = written[0];
      mbarrier_arrive(barriers[1]);
    }
}

// Giving back and taking registers changes nothing that is computed.
KERNEL_SHARED(registers, 384, 1024, uint32_t* y) {
  if (threadIdx.x < 128)
    registers_give_back<40>();
  else
    registers_take<232>();
  y[threadIdx.x] = threadIdx.x;
}

// Four times, each of two blocks brings half of a box to both, when both have let go of the one before. y has all that
// each got: the blocks' numbers, then the times.
struct SharedBox {
  uint32_t words[64][32];
  Mbarrier full, empty;
};
static_assert(sizeof(SharedBox) == 8208);

KERNEL_CLUSTER(share_boxes, 64, 8208, 2, TENSOR_MAP map, uint32_t* y) {
  DYNAMIC_SHARED(box, SharedBox);
  const uint32_t rank = cluster_rank(), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    mbarrier_init(box.full, 1);
    mbarrier_init(box.empty, 2);
    mbarrier_fence_init();
  }
  cluster_sync();
  for (uint32_t time = 0; time < 4; time++) {
    if (threadIdx.x == 0) {
      mbarrier_wait(box.empty, time % 2 ^ 1);
      mbarrier_arrive_expect(box.full, sizeof box.words);
      tma_load_shared(box.words[32 * rank], map, 64 * time, 32 * rank, box.full, 3);
    }
    if (threadIdx.x >= 32) {
      mbarrier_wait(box.full, time % 2);
      for (uint32_t r = 0; r < 64; r++) y[((rank * 4 + time) * 64 + r) * 32 + lane] = box.words[r][lane];
      __syncwarp();
      if (lane < 2) mbarrier_arrive_at(box.empty, lane);
    }
  }
  cluster_sync();
}

// Each block adds its number to what the block before has left; all are resident.
KERNEL(relay, 64, uint32_t* y, uint32_t* counter) {
  if (threadIdx.x == 0) progress_wait(counter, blockIdx.x);
  __syncthreads();
  if (threadIdx.x == 63) y[blockIdx.x] = (blockIdx.x > 0 ? y[blockIdx.x - 1] : 0) + blockIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) progress_add(counter, 1);
}

// Two pairs of warps meet at barriers of their own, the first one three times.
KERNEL(meet, 128, uint32_t* y) {
  SHARED(word, uint32_t[2]);
  const uint32_t pair = threadIdx.x / 64;
  uint32_t seen = 0;
  for (uint32_t time = 0; time < (pair == 0 ? 3u : 1u); time++) {
    if (threadIdx.x % 64 == 0) word[pair] = 10 * (time + 1) + pair;
    barrier_sync(1 + pair, 64);
    seen += word[pair];
    barrier_sync(1 + pair, 64);
  }
  y[threadIdx.x] = seen;
}
