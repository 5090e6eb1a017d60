// Kernels that reduce over rows. A narrow row belongs to one warp, several rows to a block and no barrier; a wide row
// to the whole block of THREADS threads. Which of the two is the launch's constant `team`: threads of a row.
#pragma once
#include "reduce.h"
#include "stored.h"
#include "strided.h"

template <uint32_t THREADS>
struct RowTeam {
  uint32_t size;  // 32 or THREADS

  DEVICE uint64_t row() const {
    return static_cast<uint64_t>(blockIdx.x) * (THREADS / size) + threadIdx.x / size;
  }
  DEVICE uint32_t lane() const { return threadIdx.x % size; }

  // Of one value from each thread of the team; the same in all of them.
  DEVICE float sum(float x) const { return size == 32 ? warp_sum(x) : block_sum<THREADS>(x); }
  DEVICE float max(float x) const { return size == 32 ? warp_max(x) : block_max<THREADS>(x); }
  DEVICE ValueAt argmax(ValueAt x) const { return size == 32 ? warp_argmax(x) : block_argmax<THREADS>(x); }

  // f(i) for this thread's of `packs` packs, in ascending order.
  template <typename F>
  DEVICE void each(uint32_t packs, F f) const {
    strided(lane(), packs, size, f);
  }

  // store(i, f(i)) for this thread's of `packs` packs. Loads of four packs come before their stores, which could be to
  // the same memory for all the compiler knows.
  template <typename F, typename Store>
  DEVICE void map_to(uint32_t packs, F f, Store store) const {
    uint32_t i = lane();
    for (; i + 3 * size < packs; i += 4 * size) {
      decltype(f(i)) four[4];
#pragma unroll
      for (uint32_t next = 0; next < 4; next++) four[next] = f(i + next * size);
#pragma unroll
      for (uint32_t next = 0; next < 4; next++) store(i + next * size, four[next]);
    }
    for (; i < packs; i += size) store(i, f(i));
  }

  // y[i] = f(i), stored in a format.
  template <typename Format = F32, typename F>
  DEVICE void map(void* y, uint32_t packs, F f) const {
    map_to(packs, f, [=](uint32_t i, const auto& pack) { store_stored<Format>(y, i, pack); });
  }
};

template <uint32_t N>
DEVICE float sum_of(const Pack<N>& p) {
  if constexpr (N == 1) return p.v[0];
  else return (p.v[0] + p.v[1]) + (p.v[2] + p.v[3]);
}

// The sum over a row of f(i), a pack of values.
template <uint32_t N, uint32_t THREADS, typename F>
DEVICE float row_sum(RowTeam<THREADS> team, uint32_t packs, F f) {
  float sum = 0;
  team.each(packs, [&](uint32_t i) { sum += sum_of<N>(f(i)); });
  return team.sum(sum);
}
