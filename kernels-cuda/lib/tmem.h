// Tensor memory (PTX ISA, tcgen05; sm_103a only): 128 lanes of 512 columns of 32 bits on each multiprocessor, where
// tcgen05 (lib/tcgen05.h) keeps its sums and may find its left operand. An address has its lane in the upper half and
// its column in the lower. A warp reaches the 32 lanes from 32 (warp % 4) on, and all its lanes call what follows
// together.
#pragma once
#include "mbarrier.h"

// The address of a lane's columns, from one that names lane 0.
constexpr __host__ __device__ uint32_t tmem_lane(uint32_t address, uint32_t lane) { return address + (lane << 16); }

#ifdef __CUDACC__
// Takes `columns`, a power of two from 32 on, and leaves their address in shared memory. They are the block's until one
// of its warps frees them. Where two blocks multiply together (CTAS 2, lib/tcgen05.h), the same warp of each calls
// this, and what follows, for the same columns of both, and none of tensor memory's instructions is for one block
// alone.
template <uint32_t CTAS = 1>
DEVICE void tmem_alloc(uint32_t& address, uint32_t columns) {
  asm volatile("tcgen05.alloc.cta_group::%2.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(shared_address(&address)),
               "r"(columns), "n"(CTAS)
               : "memory");
}

// The block will take no more: another one's tmem_alloc need not wait for it.
template <uint32_t CTAS = 1>
DEVICE void tmem_relinquish() {
  asm volatile("tcgen05.relinquish_alloc_permit.cta_group::%0.sync.aligned;" ::"n"(CTAS));
}

template <uint32_t CTAS = 1>
DEVICE void tmem_free(uint32_t address, uint32_t columns) {
  asm volatile("tcgen05.dealloc.cta_group::%2.sync.aligned.b32 %0, %1;" ::"r"(address), "r"(columns), "n"(CTAS));
}

#define TMEM_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define TMEM_NAMES_32 \
  TMEM_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TMEM_8(access, v, i)                                                                                       \
  access (v[i]), access (v[i + 1]), access (v[i + 2]), access (v[i + 3]), access (v[i + 4]), access (v[i + 5]),    \
    access (v[i + 6]), access (v[i + 7])
#define TMEM_16(access, v, i) TMEM_8(access, v, i), TMEM_8(access, v, i + 8)

// Starts to bring a thread 16 or 32 of its lane's columns, from `from` on, which names the warp's first lane.
template <uint32_t COUNT>
DEVICE void tmem_load(float (&to)[COUNT], uint32_t from) {
  static_assert(COUNT == 16 || COUNT == 32);
  if constexpr (COUNT == 16)
    asm volatile("tcgen05.ld.sync.aligned.32x32b.x16.b32 {" TMEM_NAMES_16 "}, [%16];"
                 : TMEM_16("=f", to, 0)
                 : "r"(from));
  else
    asm volatile("tcgen05.ld.sync.aligned.32x32b.x32.b32 {" TMEM_NAMES_32 "}, [%32];"
                 : TMEM_16("=f", to, 0), TMEM_16("=f", to, 16)
                 : "r"(from));
}

// Until what this thread's loads bring is there. Takes it by reference, so that no use moves ahead of the wait.
template <uint32_t COUNT>
DEVICE void tmem_wait(float (&loaded)[COUNT]) {
  static_assert(COUNT == 16 || COUNT == 32);
  if constexpr (COUNT == 16)
    asm volatile("tcgen05.wait::ld.sync.aligned;" : TMEM_16("+f", loaded, 0)::"memory");
  else
    asm volatile("tcgen05.wait::ld.sync.aligned;" : TMEM_16("+f", loaded, 0), TMEM_16("+f", loaded, 16)::"memory");
}

// Starts to store a thread's words to 8 or 16 of its lane's columns, from `to` on, which names the warp's first lane.
template <uint32_t COUNT>
DEVICE void tmem_store(uint32_t to, const uint32_t (&from)[COUNT]) {
  static_assert(COUNT == 8 || COUNT == 16);
  if constexpr (COUNT == 8)
    asm volatile("tcgen05.st.sync.aligned.32x32b.x8.b32 [%8], {%0, %1, %2, %3, %4, %5, %6, %7};" ::TMEM_8("r", from, 0),
                 "r"(to)
                 : "memory");
  else
    asm volatile("tcgen05.st.sync.aligned.32x32b.x16.b32 [%16], {" TMEM_NAMES_16 "};" ::TMEM_16("r", from, 0), "r"(to)
                 : "memory");
}

// Until what this thread has stored is in tensor memory; then tcgen05_fence_before and a barrier tell whoever uses it.
DEVICE void tmem_wait_stores() { asm volatile("tcgen05.wait::st.sync.aligned;" ::: "memory"); }
#else
template <uint32_t CTAS = 1>
void tmem_alloc(uint32_t& address, uint32_t columns, simt::Site site = simt::Site::current()) {
  simt::runtime->tmem_alloc(simt::this_thread(), &address, columns, CTAS, site);
}
template <uint32_t CTAS = 1>
void tmem_relinquish(simt::Site site = simt::Site::current()) {
  simt::runtime->tmem_relinquish(simt::this_thread(), CTAS, site);
}
template <uint32_t CTAS = 1>
void tmem_free(uint32_t address, uint32_t columns, simt::Site site = simt::Site::current()) {
  simt::runtime->tmem_free(simt::this_thread(), address, columns, CTAS, site);
}
template <uint32_t COUNT>
void tmem_load(float (&to)[COUNT], uint32_t from, simt::Site site = simt::Site::current()) {
  static_assert(COUNT == 16 || COUNT == 32);
  simt::runtime->tmem_load(simt::this_thread(), to, COUNT, from, site);
}
template <uint32_t COUNT>
void tmem_wait(float (&)[COUNT], simt::Site site = simt::Site::current()) {
  simt::runtime->tmem_wait(simt::this_thread(), site);
}
template <uint32_t COUNT>
void tmem_store(uint32_t to, const uint32_t (&from)[COUNT], simt::Site site = simt::Site::current()) {
  static_assert(COUNT == 8 || COUNT == 16);
  simt::runtime->tmem_store(simt::this_thread(), to, from, COUNT, site);
}
inline void tmem_wait_stores(simt::Site site = simt::Site::current()) {
  simt::runtime->tmem_wait_stores(simt::this_thread(), site);
}
#endif
