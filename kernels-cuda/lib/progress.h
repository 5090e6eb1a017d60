// Counters in device memory by which the blocks of a grid that is resident as a whole wait for each other: what a
// thread wrote before progress_add is seen by one that has come back from progress_wait for it, and by its block behind
// a barrier.
#pragma once
#include "kernel.h"

#ifdef __CUDACC__
DEVICE void progress_add(uint32_t* counter, uint32_t amount) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(amount) : "memory");
}

DEVICE void progress_wait(const uint32_t* counter, uint32_t amount) {
  uint32_t now;
  while (true) {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
    if (now >= amount) return;
    __nanosleep(20);
  }
}

// Adds 1, as progress_add, and gives what it was; whoever gets n sees what the n before it wrote.
DEVICE uint32_t progress_count(uint32_t* counter) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// By a thread that goes on after such a wait: copies by the copy engine, too, find what was written.
DEVICE void progress_fence() { asm volatile("fence.proxy.async;" ::: "memory"); }

// Starts to bring bytes, a multiple of 16 at such an address, into the second-level cache.
DEVICE void prefetch_bytes(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
#else
inline void progress_add(uint32_t* counter, uint32_t amount) {
  __atomic_fetch_add(counter, amount, __ATOMIC_RELEASE);
}
inline void progress_wait(const uint32_t* counter, uint32_t amount, simt::Site site = simt::Site::current()) {
  simt::wait_until([&] { return simt::load_acquire(counter) >= amount; }, site);
}
inline uint32_t progress_count(uint32_t* counter) { return __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL); }
inline void progress_fence() {}
inline void prefetch_bytes(const void* from, uint32_t bytes, simt::Site site = simt::Site::current()) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0)
    simt::runtime->fail(simt::this_thread(), "a prefetch is of whole 16 bytes", site);
}
#endif
