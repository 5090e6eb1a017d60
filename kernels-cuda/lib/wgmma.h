// Products of tiles in shared memory by a warpgroup, asynchronously (PTX ISA, wgmma.mma_async; sm_90a only).
#pragma once
#include "mbarrier.h"

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

// A tile whose rows are 64 neighbours along k in 16 bits, as lib/tma.h leaves it: eight rows are a pattern of 1,024
// bytes. The leading offset has no meaning there. From k on: a multiple of 16.
DEVICE uint64_t wgmma_rows(const void* tile, uint32_t k) {
  return wgmma_descriptor(shared_address(tile) + 2 * k, 16, 1024, WgmmaSwizzle::bytes_128);
}

#ifdef __CUDACC__
// Before the first product of a group, after registers were read or written.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Products since the last commit are a group.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `PENDING` groups are under way.
template <uint32_t PENDING>
DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define WGMMA_NAMES_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_NAMES_1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NAMES_3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_NAMES_4 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_NAMES_5 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_6 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_NAMES_7 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_8(i)                                                                                                   \
  "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3]), "+f"(sum[i + 4]), "+f"(sum[i + 5]),            \
    "+f"(sum[i + 6]), "+f"(sum[i + 7])
#define WGMMA_32(i) WGMMA_8(i), WGMMA_8(i + 8), WGMMA_8(i + 16), WGMMA_8(i + 24)

#define WGMMA_128(format)                                                                                   \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"                                             \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." format "." format " {" WGMMA_NAMES_0          \
               ", " WGMMA_NAMES_1 ", " WGMMA_NAMES_2 ", " WGMMA_NAMES_3 "}, %64, %65, add, 1, 1, 0, 0;\n}"  \
               : WGMMA_32(0), WGMMA_32(32)                                                                  \
               : "l"(a), "l"(b), "r"(static_cast<uint32_t>(add)))
#define WGMMA_256(format)                                                                                   \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"                                            \
               "wgmma.mma_async.sync.aligned.m64n256k16.f32." format "." format " {" WGMMA_NAMES_0          \
               ", " WGMMA_NAMES_1 ", " WGMMA_NAMES_2 ", " WGMMA_NAMES_3 ", " WGMMA_NAMES_4                  \
               ", " WGMMA_NAMES_5 ", " WGMMA_NAMES_6 ", " WGMMA_NAMES_7                                     \
               "}, %128, %129, add, 1, 1, 0, 0;\n}"                                                         \
               : WGMMA_32(0), WGMMA_32(32), WGMMA_32(64), WGMMA_32(96)                                      \
               : "l"(a), "l"(b), "r"(static_cast<uint32_t>(add)))
#else
inline void wgmma_fence() { simt::runtime->wgmma_fence(simt::this_thread()); }
inline void wgmma_commit() { simt::runtime->wgmma_commit(simt::this_thread()); }
template <uint32_t PENDING>
void wgmma_wait(simt::Site site = simt::Site::current()) {
  simt::runtime->wgmma_wait(simt::this_thread(), PENDING, site);
}
#endif

// sum[m,n] (+)= sum over 16 k of a(m,k) b(n,k), 64 m and 2 SUMS n, of numbers of `Format`. `a` and `b` describe tiles
// of rows along k. With w the thread's warp in its warpgroup, g = lane / 4 and t = lane % 4, its sums 4 j to 4 j + 3
// are rows 16 w + g (0 and 1) and 16 w + g + 8 (2 and 3) of columns 8 j + 2 t and 8 j + 2 t + 1. Without `add` the
// sums begin. They may be touched again after a wgmma_wait that the group is not pending at.
enum class WgmmaFormat : uint32_t { f16, bf16 };

#ifdef __CUDACC__
template <WgmmaFormat FORMAT, uint32_t SUMS>
DEVICE void wgmma(float (&sum)[SUMS], uint64_t a, uint64_t b, bool add) {
  static_assert(SUMS == 64 || SUMS == 128);
  if constexpr (SUMS == 64 && FORMAT == WgmmaFormat::bf16) WGMMA_128("bf16");
  if constexpr (SUMS == 64 && FORMAT == WgmmaFormat::f16) WGMMA_128("f16");
  if constexpr (SUMS == 128 && FORMAT == WgmmaFormat::bf16) WGMMA_256("bf16");
  if constexpr (SUMS == 128 && FORMAT == WgmmaFormat::f16) WGMMA_256("f16");
}
#else
template <WgmmaFormat FORMAT, uint32_t SUMS>
void wgmma(float (&sum)[SUMS], uint64_t a, uint64_t b, bool add, simt::Site site = simt::Site::current()) {
  static_assert(SUMS == 64 || SUMS == 128);
  simt::runtime->wgmma(simt::this_thread(), sum, SUMS, a, b, FORMAT == WgmmaFormat::bf16, add, site);
}
#endif
