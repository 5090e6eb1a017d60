// Reductions over the 32 lanes of a warp and over the threads of a block. Every thread of it must call, and every
// thread gets the result; the order is fixed (a butterfly over lanes, then a butterfly over the warps' results), so
// equal inputs give equal bits. A block reduction may follow another at once.
//
// A sum of values that each thread summed before has a chain of at most 10 additions on top.
#pragma once
#include "kernel.h"

DEVICE float warp_sum(float x) {
  for (uint32_t step = 16; step > 0; step /= 2) x += __shfl_xor_sync(FULL_WARP, x, step);
  return x;
}

DEVICE float warp_max(float x) {
  for (uint32_t step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, step));
  return x;
}

// A value and where it was found.
struct ValueAt {
  float value;
  uint32_t index;
};

// The larger value; of equal ones the one at the lower index.
DEVICE ValueAt larger(ValueAt a, ValueAt b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

DEVICE ValueAt warp_argmax(ValueAt x) {
  for (uint32_t step = 16; step > 0; step /= 2)
    x = larger(x, {__shfl_xor_sync(FULL_WARP, x.value, step), __shfl_xor_sync(FULL_WARP, x.index, step)});
  return x;
}

// `x` of each warp's first lane, spread so that lane i of every warp holds that of warp i; others `idle`.
template <uint32_t THREADS, typename T>
DEVICE T exchange_warps(T x, T idle) {
  static_assert(THREADS % 32 == 0 && THREADS <= 1024, "a block is whole warps");
  SHARED(of_warp, T[THREADS / 32]);
  const uint32_t lane = threadIdx.x % 32;
  __syncthreads();  // until here the exchange before may still be read
  if (lane == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  return lane < THREADS / 32 ? of_warp[lane] : idle;
}

template <uint32_t THREADS>
DEVICE float block_sum(float x) {
  return warp_sum(exchange_warps<THREADS>(warp_sum(x), 0.0f));
}

template <uint32_t THREADS>
DEVICE float block_max(float x) {
  return warp_max(exchange_warps<THREADS>(warp_max(x), -INFINITY));
}

template <uint32_t THREADS>
DEVICE ValueAt block_argmax(ValueAt x) {
  return warp_argmax(exchange_warps<THREADS>(warp_argmax(x), ValueAt{-INFINITY, 0xffffffffu}));
}
