// What an attention forward that goes through its work as persistent blocks has in shared memory: the queries of a tile
// and a ring of keys and values, which one warp fills.
#pragma once
#include "attention_boxes.h"
#include "ring.h"

constexpr uint32_t QUERY_ROWS = 128, KEY_ROWS = 128;

// `Step` is what a stage has: Step::END as its `key` after the last keys of a tile of queries.
template <uint32_t DIM, uint32_t STAGES, class OfStage>
struct KeyRing {
  using Step = OfStage;
  Boxes<DIM, QUERY_ROWS> q;
  Boxes<DIM, KEY_ROWS> ring[STAGES];
  Step step[STAGES];
  Mbarrier q_full, q_empty, full[STAGES], empty[STAGES];
  Mbarrier landed;  // of values whose stage is full only when some of their rows have been zeroed

  // By one thread, before mbarrier_fence_init: how many arrivals empty the queries and a stage, and fill them where not
  // the copy engine alone does.
  DEVICE void init(uint32_t q_leave, uint32_t leave, uint32_t q_fill = 1, uint32_t fill = 1) {
    mbarrier_init(q_full, q_fill);
    mbarrier_init(q_empty, q_leave);
    mbarrier_init(landed, 1);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(full[s], fill);
      mbarrier_init(empty[s], leave);
    }
  }
};

// The item of a block in a round of a persistent grid; the `blocks` of a cluster have neighbours. Rounds alternate in
// direction, so that blocks have alike of items that become shorter or longer.
DEVICE uint32_t item_of_round(uint32_t round, uint32_t blocks = 1) {
  const uint32_t own = blockIdx.x / blocks, all = gridDim.x / blocks;
  return (round * all + (round % 2 == 0 ? own : all - 1 - own)) * blocks + blockIdx.x % blocks;
}

// By a warp, of rows that were copied: a weight of 0 makes nothing of what must not matter, unless it is NaN or
// infinite. So rows that no query of the tile sees, in front of `first` and from `past` on, become zeros.
template <uint32_t DIM, uint32_t ROWS>
DEVICE void zero_rows(Boxes<DIM, ROWS>& tile, uint32_t first, uint32_t past) {
  constexpr uint32_t CHUNKS = BOX_DIMS / 8;  // of 16 bytes in a row of a box, which has them in some order
  for (uint32_t d = 0; d < DIM / BOX_DIMS; d++) {
    uint4* chunk = reinterpret_cast<uint4*>(tile[d]);
    for (uint32_t i = threadIdx.x % 32; i < first * CHUNKS; i += 32) chunk[i] = make_uint4(0, 0, 0, 0);
    for (uint32_t i = past * CHUNKS + threadIdx.x % 32; i < ROWS * CHUNKS; i += 32)
      chunk[i] = make_uint4(0, 0, 0, 0);
  }
  fence_proxy_async();
  __syncwarp();
}
