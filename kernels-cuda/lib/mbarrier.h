// Barriers in shared memory that count arrivals of threads and bytes of asynchronous copies (PTX ISA, mbarrier). A
// phase is over when `count` threads have arrived and as many bytes as they said have come; then the next begins.
// Phases have parities 0, 1, 0...: mbarrier_wait(barrier, p) waits for the end of the phase with parity p, and returns
// at once where the phase under way has the other: so the first wait for parity 1 never waits.
#pragma once
#include "async_proxy.h"

struct alignas(8) Mbarrier {
  uint64_t state;
};

#ifdef __CUDACC__
// By one thread; then mbarrier_fence_init by it and a barrier of the block before others use it.
DEVICE void mbarrier_init(Mbarrier& barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(count) : "memory");
}

// Ends a barrier that nobody uses any more, so that its memory may hold something else: another barrier, too.
DEVICE void mbarrier_invalidate(Mbarrier& barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// Makes initialised barriers known to the copy engine.
DEVICE void mbarrier_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void mbarrier_arrive(Mbarrier& barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// Arrives, and says that the phase takes `bytes` more of copies.
DEVICE void mbarrier_arrive_expect(Mbarrier& barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(bytes)
               : "memory");
}

DEVICE void mbarrier_wait(Mbarrier& barrier, uint32_t parity) {
  asm volatile(
    "{\n"
    ".reg .pred done;\n"
    "again_%=:\n"
    "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
    "@!done bra again_%=;\n"
    "}" ::"r"(shared_address(&barrier)),
    "r"(parity)
    : "memory");
}
#else
inline void mbarrier_init(Mbarrier& barrier, uint32_t count, simt::Site site = simt::Site::current()) {
  simt::runtime->mbarrier_init(simt::this_thread(), &barrier, count, site);
}
inline void mbarrier_invalidate(Mbarrier& barrier, simt::Site site = simt::Site::current()) {
  simt::runtime->mbarrier_invalidate(simt::this_thread(), &barrier, site);
}
inline void mbarrier_fence_init() { simt::runtime->mbarrier_fence_init(simt::this_thread()); }
inline void mbarrier_arrive(Mbarrier& barrier, simt::Site site = simt::Site::current()) {
  simt::runtime->mbarrier_arrive(simt::this_thread(), &barrier, simt::own_rank(), 0, site);
}
inline void mbarrier_arrive_expect(Mbarrier& barrier, uint32_t bytes, simt::Site site = simt::Site::current()) {
  simt::runtime->mbarrier_arrive(simt::this_thread(), &barrier, simt::own_rank(), bytes, site);
}
inline void mbarrier_wait(Mbarrier& barrier, uint32_t parity, simt::Site site = simt::Site::current()) {
  simt::wait_until([&] { return simt::runtime->mbarrier_test(simt::this_thread(), &barrier, parity, site); }, site);
}
#endif
