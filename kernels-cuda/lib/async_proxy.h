// Shared memory as the copy engine and wgmma see it: beside threads, by 32-bit addresses (PTX ISA, "Async proxy").
#pragma once
#include "kernel.h"

#ifdef __CUDACC__
DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Makes what the calling thread has stored to shared memory visible there: each thread that has stored calls it, then
// a barrier, then some thread issues the copy or the product that reads.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#else
inline uint32_t shared_address(const void* pointer, simt::Site site = simt::Site::current()) {
  return simt::runtime->shared_address(simt::this_thread(), pointer, site);
}
inline void fence_proxy_async() { simt::runtime->fence_proxy_async(simt::this_thread()); }
#endif
