// Barriers, warp functions and waits on memory. Included by simt.h.
#pragma once

__forceinline__ void __syncthreads(simt::Site site = simt::Site::current()) {
  simt::runtime->barrier(simt::this_thread(), simt::Collective::barrier, false, site);
}
__forceinline__ int __syncthreads_count(int predicate, simt::Site site = simt::Site::current()) {
  return static_cast<int>(
    simt::runtime->barrier(simt::this_thread(), simt::Collective::barrier_count, predicate != 0, site));
}
__forceinline__ int __syncthreads_and(int predicate, simt::Site site = simt::Site::current()) {
  return static_cast<int>(
    simt::runtime->barrier(simt::this_thread(), simt::Collective::barrier_and, predicate != 0, site));
}
__forceinline__ int __syncthreads_or(int predicate, simt::Site site = simt::Site::current()) {
  return static_cast<int>(
    simt::runtime->barrier(simt::this_thread(), simt::Collective::barrier_or, predicate != 0, site));
}

namespace simt {

__forceinline__ uint32_t lane() { return this_thread().index.x % 32; }

template <class T>
__forceinline__ T shuffle(uint32_t mask, T value, uint32_t source, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  uint64_t operand = 0;
  std::memcpy(&operand, &value, sizeof value);
  const uint64_t result = runtime->warp(this_thread(), Collective::shuffle, mask, operand, source, site);
  std::memcpy(&value, &result, sizeof value);
  return value;
}

__forceinline__ uint32_t segment(int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    runtime->fail(this_thread(), "a shuffle's width is not a power of two up to 32", site);
  return static_cast<uint32_t>(width) - 1;
}

template <class T>
__forceinline__ T warp(Collective collective, uint32_t mask, T value, Site site) {
  uint64_t operand = 0;
  std::memcpy(&operand, &value, sizeof value);
  return static_cast<T>(runtime->warp(this_thread(), collective, mask, operand, 0, site));
}

// Waits until `condition` holds, which another thread brings about through memory.
template <class Condition>
void wait_until(Condition condition, Site site = Site::current()) {
  if (condition()) return;
  do runtime->yield(this_thread(), site);
  while (!condition());
  runtime->resume(this_thread());
}

// The calling block's place in its cluster.
__forceinline__ uint32_t own_rank() { return runtime->cluster_rank(this_thread()); }

}  // namespace simt

__forceinline__ void __nanosleep(unsigned, simt::Site site = simt::Site::current()) {
  simt::runtime->yield(simt::this_thread(), site);
}

__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu, simt::Site site = simt::Site::current()) {
  simt::runtime->warp(simt::this_thread(), simt::Collective::syncwarp, mask, 0, 0, site);
}

// A source outside the segment of `width` lanes gives a lane its own value.
template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                              simt::Site site = simt::Site::current()) {
  const uint32_t segment = simt::segment(width, site);
  return simt::shuffle(mask, value, (simt::lane() & ~segment) | (static_cast<uint32_t>(source) & segment), site);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 simt::Site site = simt::Site::current()) {
  const uint32_t lane = simt::lane(), within = lane & simt::segment(width, site);
  return simt::shuffle(mask, value, delta <= within ? lane - delta : lane, site);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                   simt::Site site = simt::Site::current()) {
  const uint32_t lane = simt::lane(), segment = simt::segment(width, site);
  return simt::shuffle(mask, value, delta <= segment - (lane & segment) ? lane + delta : lane, site);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                                  simt::Site site = simt::Site::current()) {
  const uint32_t lane = simt::lane(), source = lane ^ static_cast<uint32_t>(lanes);
  return simt::shuffle(mask, value, source <= (lane | simt::segment(width, site)) ? source : lane, site);
}

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return simt::warp<uint32_t>(simt::Collective::ballot, mask, predicate != 0, site);
}
__forceinline__ int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return simt::warp<int>(simt::Collective::any, mask, predicate != 0, site);
}
__forceinline__ int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return simt::warp<int>(simt::Collective::all, mask, predicate != 0, site);
}

template <class T>
__forceinline__ unsigned __match_any_sync(unsigned mask, T value, simt::Site site = simt::Site::current()) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t operand = 0;
  std::memcpy(&operand, &value, sizeof value);
  return static_cast<unsigned>(
    simt::runtime->warp(simt::this_thread(), simt::Collective::match_any, mask, operand, 0, site));
}
template <class T>
__forceinline__ unsigned __match_all_sync(unsigned mask, T value, int* equal,
                                          simt::Site site = simt::Site::current()) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t operand = 0;
  std::memcpy(&operand, &value, sizeof value);
  const uint64_t lanes =
    simt::runtime->warp(simt::this_thread(), simt::Collective::match_all, mask, operand, 0, site);
  *equal = lanes != 0;
  return static_cast<unsigned>(lanes);
}

#define SIMT_REDUCE(name, type, collective)                                                                    \
  __forceinline__ type name(unsigned mask, type value, simt::Site site = simt::Site::current()) {              \
    return simt::warp<type>(simt::Collective::collective, mask, value, site);                                  \
  }
SIMT_REDUCE(__reduce_add_sync, unsigned, reduce_add)
SIMT_REDUCE(__reduce_add_sync, int, reduce_add)
SIMT_REDUCE(__reduce_min_sync, unsigned, reduce_min)
SIMT_REDUCE(__reduce_min_sync, int, reduce_min_signed)
SIMT_REDUCE(__reduce_max_sync, unsigned, reduce_max)
SIMT_REDUCE(__reduce_max_sync, int, reduce_max_signed)
SIMT_REDUCE(__reduce_and_sync, unsigned, reduce_and)
SIMT_REDUCE(__reduce_or_sync, unsigned, reduce_or)
SIMT_REDUCE(__reduce_xor_sync, unsigned, reduce_xor)
#undef SIMT_REDUCE
