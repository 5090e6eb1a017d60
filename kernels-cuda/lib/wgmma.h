// Products of tiles by a warpgroup, asynchronously (PTX ISA, wgmma.mma_async; sm_90a only).
#pragma once
#include "async_proxy.h"
#include "wgmma_instruction.h"

enum class WgmmaSwizzle : uint32_t { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

// A matrix descriptor (PTX ISA, "Matrix-descriptor format"): bits 0 to 13 the address in shared memory, 16 to 29 the
// leading and 32 to 45 the stride offset, each in units of 16 bytes, 62 and 63 the swizzle. The base offset, bits 49
// to 51, is 0: a pattern begins at a multiple of its size.
constexpr __host__ __device__ uint64_t wgmma_descriptor(uint32_t address, uint32_t leading_bytes,
                                                        uint32_t stride_bytes, WgmmaSwizzle swizzle) {
  return static_cast<uint64_t>((address & 0x3ffffu) >> 4) |
         static_cast<uint64_t>((leading_bytes & 0x3ffffu) >> 4) << 16 |
         static_cast<uint64_t>((stride_bytes & 0x3ffffu) >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}

// The layouts used are the canonical ones with the swizzle of 128 bytes (PTX ISA, "Strides"), as lib/tma.h leaves
// them: boxes of rows of 128 bytes, of which eight are a pattern of 1,024.
//
// K-major: a row of the box is 128 bytes along k of one m (or n). The stride is from eight of m to the next; the
// leading offset has no meaning, by convention it is 16.
constexpr __host__ __device__ uint64_t wgmma_k_major(uint32_t address, uint32_t k_bytes) {
  return wgmma_descriptor(address + k_bytes, 16, 1024, WgmmaSwizzle::bytes_128);
}
// MN-major, of 16 bits: a row of the box is 64 neighbours along m (or n) of one k. The stride is from eight of k to
// the next; the leading offset is from 64 of m to the next, the bytes of a box.
constexpr __host__ __device__ uint64_t wgmma_mn_major(uint32_t address, uint32_t box_bytes, uint32_t k) {
  return wgmma_descriptor(address + 128 * k, box_bytes, 1024, WgmmaSwizzle::bytes_128);
}

// A tile whose rows lie along k, from k on: a multiple of 16 elements of 16 bits, or 32 of 8.
template <uint32_t ELEMENT_BYTES = 2>
DEVICE uint64_t wgmma_rows(const void* tile, uint32_t k) {
  return wgmma_k_major(shared_address(tile), ELEMENT_BYTES * k);
}
// A tile of boxes of `depth` rows, one for each 64 columns, that lie along m or n; from k on, a multiple of 16.
DEVICE uint64_t wgmma_columns(const void* tile, uint32_t depth, uint32_t k) {
  return wgmma_mn_major(shared_address(tile), 128 * depth, k);
}

#ifdef __CUDACC__
// Before the first product of a group, after its sums or its registers of A were read or written.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Products since the last commit are a group.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `PENDING` groups are under way.
template <uint32_t PENDING>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
#else
inline void wgmma_fence() { simt::runtime->wgmma_fence(simt::this_thread()); }
inline void wgmma_commit() { simt::runtime->wgmma_commit(simt::this_thread()); }
template <uint32_t PENDING>
void wgmma_wait(simt::Site site = simt::Site::current()) {
  simt::runtime->wgmma_wait(simt::this_thread(), PENDING, site);
}
#endif

// sum[m,n] (+)= sum over k of a(m,k) b(n,k), 64 m and 2 SUMS n, over 16 k of f16 or bf16, 32 of e4m3. With w the
// thread's warp in its warpgroup, g = lane / 4 and t = lane % 4, its sums 4 j to 4 j + 3 are rows 16 w + g (0 and 1)
// and 16 w + g + 8 (2 and 3) of columns 8 j + 2 t and 8 j + 2 t + 1. Without `add` the sums begin. They may be touched
// again after a wgmma_wait that the group is not pending at.
//
// Sums of e4m3 products are kept to fewer bits than f32 has (about 14 of mantissa, by measurements others published):
// a kernel adds them to sums of its own every 128 of k.
template <WgmmaFormat FORMAT, WgmmaMajor A_MAJOR = WgmmaMajor::k, WgmmaMajor B_MAJOR = WgmmaMajor::k, uint32_t SUMS>
DEVICE void wgmma(float (&sum)[SUMS], uint64_t a, uint64_t b, bool add WGMMA_SITE) {
  static_assert(FORMAT != WgmmaFormat::e4m3 || (A_MAJOR == WgmmaMajor::k && B_MAJOR == WgmmaMajor::k));
#ifdef __CUDACC__
  if constexpr (FORMAT == WgmmaFormat::e4m3) {
    WGMMA_OF_SUMS(WGMMA_SHARED_8)
  } else {
    WGMMA_OF_SUMS(WGMMA_SHARED_16)
  }
#else
  simt::runtime->wgmma(simt::this_thread(), sum, SUMS, {a, nullptr, b, FORMAT, A_MAJOR, B_MAJOR, add}, site);
#endif
}

// The same with A in registers: a[0] and a[1] are elements k = 2 t and 2 t + 1 (low half first) of rows 16 w + g and
// 16 w + g + 8, a[2] and a[3] those 8 further along k. They keep their values until the wgmma_wait.
template <WgmmaFormat FORMAT, WgmmaMajor B_MAJOR = WgmmaMajor::k, uint32_t SUMS>
DEVICE void wgmma(float (&sum)[SUMS], const uint32_t (&a)[4], uint64_t b, bool add WGMMA_SITE) {
  static_assert(FORMAT != WgmmaFormat::e4m3);
#ifdef __CUDACC__
  WGMMA_OF_SUMS(WGMMA_REGISTERS)
#else
  simt::runtime->wgmma(simt::this_thread(), sum, SUMS, {0, a, b, FORMAT, WgmmaMajor::k, B_MAJOR, add}, site);
#endif
}
