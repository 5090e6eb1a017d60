// Kernels that reduce over rows. A narrow row belongs to one warp, several rows to a block and no barrier; a wide row
// to the whole block of THREADS threads. Which of the two is the launch's constant `team`: threads of a row.
#pragma once
#include "pack.h"
#include "reduce.h"

template <uint32_t THREADS>
struct RowTeam {
  uint32_t size;  // 32 or THREADS

  DEVICE uint64_t row() const {
    return static_cast<uint64_t>(blockIdx.x) * (THREADS / size) + threadIdx.x / size;
  }
  DEVICE uint32_t lane() const { return threadIdx.x % size; }
  DEVICE float sum(float x) const { return size == 32 ? warp_sum(x) : block_sum<THREADS>(x); }
  DEVICE float max(float x) const { return size == 32 ? warp_max(x) : block_max<THREADS>(x); }
  DEVICE ValueAt argmax(ValueAt x) const { return size == 32 ? warp_argmax(x) : block_argmax<THREADS>(x); }
};

// The sum of f over the elements of a row, which this thread gets as packs; the same in every thread of the team.
template <uint32_t N, uint32_t THREADS, typename F, typename... X>
DEVICE float row_sum(RowTeam<THREADS> team, uint32_t width, F f, const X*... x) {
  Pack<N> sum = {};
  for (uint32_t i = team.lane(); i < width / N; i += team.size) {
    const Pack<N> v = map<N>(f, load_pack<N>(x, i)...);
    for (uint32_t j = 0; j < N; j++) sum.v[j] += v.v[j];
  }
  float total = sum.v[0];
  for (uint32_t j = 1; j < N; j++) total += sum.v[j];
  return team.sum(total);
}

// y = f(x...) for the elements of a row.
template <uint32_t N, uint32_t THREADS, typename F, typename... X>
DEVICE void row_map(RowTeam<THREADS> team, uint32_t width, float* y, F f, const X*... x) {
  for (uint32_t i = team.lane(); i < width / N; i += team.size) store_pack(y, i, map<N>(f, load_pack<N>(x, i)...));
}
