// The text of wgmma.mma_async for lib/wgmma.h: one instruction for each number of columns.
#pragma once
#include "kernel.h"

#ifndef __CUDACC__
using simt::WgmmaFormat;
using simt::WgmmaMajor;
#define WGMMA_SITE , simt::Site site = simt::Site::current()
#else
enum class WgmmaFormat : uint32_t { f16, bf16, e4m3 };
// Which of an operand's indices its neighbours in shared memory differ in: k, or m (of A) and n (of B).
enum class WgmmaMajor : uint32_t { k, mn };
#define WGMMA_SITE

template <WgmmaFormat FORMAT>
struct WgmmaName;
template <>
struct WgmmaName<WgmmaFormat::f16> {
  static constexpr const char text[] = "f16";
};
template <>
struct WgmmaName<WgmmaFormat::bf16> {
  static constexpr const char text[] = "bf16";
};

#define WGMMA_NAMES_32                                                                               \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_48 \
  WGMMA_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NAMES_64 \
  WGMMA_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_NAMES_96                                                                               \
  WGMMA_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"  \
                 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_128                                                                              \
  WGMMA_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109"  \
                 ", %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122"    \
                 ", %123, %124, %125, %126, %127"
#define WGMMA_SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define WGMMA_SUMS_16(i) WGMMA_SUMS_4(i), WGMMA_SUMS_4(i + 4), WGMMA_SUMS_4(i + 8), WGMMA_SUMS_4(i + 12)
#define WGMMA_SUMS_32 WGMMA_SUMS_16(0), WGMMA_SUMS_16(16)
#define WGMMA_SUMS_48 WGMMA_SUMS_32, WGMMA_SUMS_16(32)
#define WGMMA_SUMS_64 WGMMA_SUMS_48, WGMMA_SUMS_16(48)
#define WGMMA_SUMS_96 WGMMA_SUMS_64, WGMMA_SUMS_16(64), WGMMA_SUMS_16(80)
#define WGMMA_SUMS_128 WGMMA_SUMS_96, WGMMA_SUMS_16(96), WGMMA_SUMS_16(112)

// instruction(columns, sums' names, sums, names of the operands behind the sums)
#define WGMMA_OF_SUMS(instruction)                                                                                 \
  static_assert(SUMS == 32 || SUMS == 48 || SUMS == 64 || SUMS == 96 || SUMS == 128);                              \
  if constexpr (SUMS == 32)                                                                                        \
    instruction("64", WGMMA_NAMES_32, WGMMA_SUMS_32, "%32", "%33", "%34", "%35", "%36", "%37", "%38", "%39");      \
  if constexpr (SUMS == 48)                                                                                        \
    instruction("96", WGMMA_NAMES_48, WGMMA_SUMS_48, "%48", "%49", "%50", "%51", "%52", "%53", "%54", "%55");      \
  if constexpr (SUMS == 64)                                                                                        \
    instruction("128", WGMMA_NAMES_64, WGMMA_SUMS_64, "%64", "%65", "%66", "%67", "%68", "%69", "%70", "%71");     \
  if constexpr (SUMS == 96)                                                                                        \
    instruction("192", WGMMA_NAMES_96, WGMMA_SUMS_96, "%96", "%97", "%98", "%99", "%100", "%101", "%102", "%103"); \
  if constexpr (SUMS == 128)                                                                                       \
    instruction("256", WGMMA_NAMES_128, WGMMA_SUMS_128, "%128", "%129", "%130", "%131", "%132", "%133", "%134",    \
                "%135");

// `operands` ends with which of a and b are not K-major.
#define WGMMA_TEXT(columns, depth, format, names, operands, add)                             \
  "{\n.reg .pred add;\nsetp.ne.b32 add, " add ", 0;\n"                                       \
  "wgmma.mma_async.sync.aligned.m64n" columns "k" depth ".f32." format "." format " {" names \
  "}, " operands ";\n}"

#define WGMMA_SHARED_16(columns, names, sums, A, B, ADD, A_MN, B_MN, FORMATS, _6, _7)                  \
  asm volatile(WGMMA_TEXT(columns, "16", FORMATS, names, A ", " B ", add, 1, 1, " A_MN ", " B_MN, ADD) \
               : sums                                                                                  \
               : "l"(a), "l"(b), "r"(static_cast<uint32_t>(add)), "n"(static_cast<int>(A_MAJOR)),      \
                 "n"(static_cast<int>(B_MAJOR)), "C"(WgmmaName<FORMAT>::text))
#define WGMMA_SHARED_8(columns, names, sums, A, B, ADD, _3, _4, _5, _6, _7)          \
  asm volatile(WGMMA_TEXT(columns, "32", "e4m3", names, A ", " B ", add, 1, 1", ADD) \
               : sums                                                                \
               : "l"(a), "l"(b), "r"(static_cast<uint32_t>(add)))
#define WGMMA_REGISTERS(columns, names, sums, A0, A1, A2, A3, B, ADD, B_MN, FORMATS)                         \
  asm volatile(WGMMA_TEXT(columns, "16", FORMATS, names,                                                     \
                          "{" A0 ", " A1 ", " A2 ", " A3 "}, " B ", add, 1, 1, " B_MN, ADD)                  \
               : sums                                                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<uint32_t>(add)),        \
                 "n"(static_cast<int>(B_MAJOR)), "C"(WgmmaName<FORMAT>::text))
#endif
