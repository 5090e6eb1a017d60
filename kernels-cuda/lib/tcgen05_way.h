// A way to multiply on Blackwell's tensor cores for lib/matmul_tcgen05.h: formats, tiles, and what warps have in
// common.
#pragma once
#include "pieces.h"
#include "tcgen05.h"
#include "tcgen05_scales.h"

constexpr uint32_t STAGE_BYTES = 128, STEPS = STAGE_BYTES / TCGEN05_BYTES, SLOTS = 2, TENSOR_COLUMNS = 512;
// Columns of a box along m or n, and its rows: those of a stage of 16 bits along k.
constexpr uint32_t BOX = 64, BOX_BYTES = BOX * STAGE_BYTES;

// Which of an operand's indices its neighbours in memory differ in: k, or m (of a) and n (of b).
enum class Major : uint32_t { k, mn };

struct Operands {
  const TensorMap &a, &b;
  // Of formats with scales: the tensors, of which scales follow the quants.
  const void *a_blocks = nullptr, *b_blocks = nullptr;
};

// A way to multiply. PARTS: the sums of each stage leave tensor memory by themselves.
template <Tcgen05Format FORMAT_, uint32_t CTAS_, uint32_t COLUMNS_, uint32_t STAGES_, Major A_ = Major::k,
          Major B_ = Major::k>
struct Way {
  static constexpr Tcgen05Format FORMAT = FORMAT_;
  static constexpr Major A = A_, B = B_;
  static constexpr uint32_t CTAS = CTAS_, COLUMNS = COLUMNS_, STAGES = STAGES_, B_ROWS = COLUMNS / CTAS;
  static constexpr bool SCALED = tcgen05_scaled(FORMAT), PARTS = FORMAT == Tcgen05Format::e4m3;
  static constexpr uint32_t ELEMENT = FORMAT <= Tcgen05Format::bf16 ? 2 : 1;  // bytes of tensor maps'
  // Words of four scales that a stage has of each row, and how often SCALED_ROWS.
  static constexpr uint32_t WORDS = FORMAT == Tcgen05Format::nvfp4 ? STEPS : SCALED ? 1 : 0;
  static constexpr uint32_t ATOMS = 1 + (COLUMNS + SCALED_ROWS - 1) / SCALED_ROWS;
  static constexpr uint32_t SCALES_OF_A = SLOTS * COLUMNS, SCALES_OF_B = SCALES_OF_A + 4 * WORDS;
  static_assert(SCALES_OF_B + 4 * WORDS * (ATOMS - 1) <= TENSOR_COLUMNS);
  // Warps that take sums, as each reaches the lanes of its number only, and those behind them.
  static constexpr uint32_t TAKING_WARPS = PARTS ? 8 : 4, COPYING_WARP = TAKING_WARPS;
  static constexpr uint32_t MULTIPLYING_WARP = COPYING_WARP + 1, FIRST_SCALING_WARP = COPYING_WARP + 2;
};

template <class W, class Output>
struct Ring {
  uint8_t a[W::STAGES][TILE_ROWS][STAGE_BYTES];
  uint8_t b[W::STAGES][W::B_ROWS][STAGE_BYTES];
  Scales<W::WORDS, W::ATOMS> scales[W::STAGES];
  typename Output::Shared outgoing[W::TAKING_WARPS];
  // Of a pair, `full` and `taken` are waited for in block 0 alone.
  Mbarrier full[W::STAGES], empty[W::STAGES], summed[SLOTS], taken[SLOTS];
  uint32_t tensor_memory;
};

// A barrier of all threads that multiply together.
template <uint32_t CTAS>
DEVICE void sync_blocks() {
  if constexpr (CTAS == 1)
    __syncthreads();
  else
    cluster_sync();
}

// Arrives at the barrier of the block whose thread multiplies.
template <uint32_t CTAS>
DEVICE void arrive(Mbarrier& barrier) {
  if constexpr (CTAS == 1)
    mbarrier_arrive(barrier);
  else
    mbarrier_arrive_at(barrier, 0);
}

template <class W, class Stages>
DEVICE void begin(Stages& ring) {
  // A pair takes columns together, so both of its blocks have to have started.
  if constexpr (W::CTAS > 1) cluster_sync();
  if (threadIdx.x / 32 == W::MULTIPLYING_WARP) {
    tmem_alloc<W::CTAS>(ring.tensor_memory, TENSOR_COLUMNS);
    tmem_relinquish<W::CTAS>();
  }
  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < W::STAGES; s++) {
      mbarrier_init(ring.full[s], W::SCALED ? 1 + W::ATOMS * W::CTAS : 1);
      mbarrier_init(ring.empty[s], 1);
    }
    for (uint32_t s = 0; s < SLOTS; s++) {
      mbarrier_init(ring.summed[s], 1);
      mbarrier_init(ring.taken[s], W::TAKING_WARPS * W::CTAS);
    }
    mbarrier_fence_init();
  }
  tcgen05_fence_before();
  sync_blocks<W::CTAS>();
  tcgen05_fence_after();
}

template <class W, class Stages>
DEVICE void end(Stages& ring) {
  __syncwarp();
  tcgen05_fence_before();
  sync_blocks<W::CTAS>();
  tcgen05_fence_after();
  if (threadIdx.x / 32 == W::MULTIPLYING_WARP) tmem_free<W::CTAS>(ring.tensor_memory, TENSOR_COLUMNS);
}
