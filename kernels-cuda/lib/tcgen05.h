// Products of tiles in shared memory with sums in tensor memory, asynchronously (PTX ISA, tcgen05; sm_103a only). One
// thread issues products and copies of scales, which run in its order, and commits them to an mbarrier; whoever has
// waited for it may read the sums, and the stages may be filled again.
//
// With CTAS 2 the two blocks of a cluster are a pair that multiplies 256 rows of a: block 0 has the first 128 of a and
// of the sums and the first half of b's rows, block 1 the others, all at the same addresses in both. A thread of block
// 0 issues for both.
#pragma once
#include "cluster.h"
#include "tmem.h"

enum class Tcgen05Swizzle : uint32_t { none = 0, bytes_128 = 2, bytes_64 = 4, bytes_32 = 6 };

// A shared memory descriptor (PTX ISA, "Shared memory descriptor"): bits 0 to 13 the address, 16 to 29 the leading and
// 32 to 45 the stride offset, each in units of 16 bytes, 46 to 48 the constant 1, 61 to 63 the swizzle. The base
// offset, bits 49 to 51, is 0: a pattern begins at a multiple of its size.
constexpr __host__ __device__ uint64_t tcgen05_descriptor(uint32_t address, uint32_t leading_bytes,
                                                          uint32_t stride_bytes, Tcgen05Swizzle swizzle) {
  return static_cast<uint64_t>((address & 0x3ffffu) >> 4) |
         static_cast<uint64_t>((leading_bytes & 0x3ffffu) >> 4) << 16 |
         static_cast<uint64_t>((stride_bytes & 0x3ffffu) >> 4) << 32 | uint64_t{1} << 46 |
         static_cast<uint64_t>(swizzle) << 61;
}

// What is multiplied, and how deep one product is: always 32 bytes of a row.
//   f16, bf16   16 numbers
//   e4m3        32 numbers
//   mxfp8       32 numbers in e4m3, one scale in e8m0
//   nvfp4       64 numbers in e2m1, one scale in e4m3 for each 16
enum class Tcgen05Format : uint32_t { f16, bf16, e4m3, mxfp8, nvfp4 };
constexpr uint32_t TCGEN05_BYTES = 32;

constexpr __host__ __device__ bool tcgen05_scaled(Tcgen05Format format) {
  return format == Tcgen05Format::mxfp8 || format == Tcgen05Format::nvfp4;
}

// An instruction descriptor (PTX ISA, "Instruction descriptor") of tiles of rows along k: bits 4 and 5 the format of
// the sums (1: f32), or which byte of a word is the scale of b; 7 to 9 and 10 to 12 the formats of a and b (of
// kind::f16 0: f16, 1: bf16; of f8f6f4 and mxf8f6f4 0: e4m3; of mxf4nvf4 1: e2m1); 17 to 22 columns / 8; 23 the
// format of scales (0: e4m3, 1: e8m0); 24 to 28 rows / 16; 29 and 30 which byte is the scale of a. Bits 15 and 16 say
// that a's or b's rows in memory are along m or n (tcgen05_columns).
constexpr uint32_t TCGEN05_A_COLUMNS = 1u << 15, TCGEN05_B_COLUMNS = 1u << 16;
constexpr __host__ __device__ uint32_t tcgen05_instruction(Tcgen05Format format, uint32_t rows, uint32_t columns,
                                                           uint32_t scale_byte = 0) {
  const uint32_t number = format == Tcgen05Format::bf16 || format == Tcgen05Format::nvfp4 ? 1 : 0;
  const uint32_t fourth = tcgen05_scaled(format) ? scale_byte : 1;
  const uint32_t scale_format = format == Tcgen05Format::mxfp8 ? 1 : 0;
  return fourth << 4 | number << 7 | number << 10 | columns / 8 << 17 | scale_format << 23 | rows / 16 << 24 |
         (tcgen05_scaled(format) ? scale_byte : 0) << 29;
}

// A tile whose rows are 128 bytes along k, as lib/tma.h leaves it: eight rows are a pattern of 1,024 bytes. From byte
// `k` of the rows on: a multiple of 32. The leading offset has no meaning there.
DEVICE uint64_t tcgen05_rows(const void* tile, uint32_t k) {
  return tcgen05_descriptor(shared_address(tile) + k, 16, 1024, Tcgen05Swizzle::bytes_128);
}

// Boxes of 64 columns in 16 bits, a row of 128 bytes for each of k, `box_bytes` apart: an operand whose memory runs
// along m or n. From k on: a multiple of 16.
DEVICE uint64_t tcgen05_columns(const void* boxes, uint32_t box_bytes, uint32_t k) {
  return tcgen05_descriptor(shared_address(boxes) + 128 * k, box_bytes, 1024, Tcgen05Swizzle::bytes_128);
}

// 128 rows' words of four scales: the word of row r in words 4 (r % 32) + r / 32 of 512 bytes.
DEVICE uint64_t tcgen05_words(const void* words) {
  return tcgen05_descriptor(shared_address(words), 16, 128, Tcgen05Swizzle::none);
}

#ifdef __CUDACC__
// Between an mbarrier or another barrier and what the thread then does with tensor memory that other threads, or
// committed products, used before it; and ahead of the barrier that tells others of this thread's own loads.
DEVICE void tcgen05_fence_after() { asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory"); }
DEVICE void tcgen05_fence_before() { asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory"); }

// The barrier gets one arrival when all that this thread has issued is done; of a pair, that in the same place of each.
template <uint32_t CTAS = 1>
DEVICE void tcgen05_commit(Mbarrier& barrier) {
  if constexpr (CTAS == 1)
    asm volatile("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(
                   shared_address(&barrier))
                 : "memory");
  else
    asm volatile(
      "tcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%0], %1;" ::"r"(
        shared_address(&barrier)),
      "h"(static_cast<uint16_t>(3))
      : "memory");
}

// Copies what tcgen05_words describes to four columns of tensor memory: the word of row r to lane r % 32 of column
// `to` + r / 32, and to the same lane of the three other quarters. Each block of a pair copies its own.
template <uint32_t CTAS = 1>
DEVICE void tcgen05_copy_words(uint32_t to, uint64_t words) {
  asm volatile("tcgen05.cp.cta_group::%2.32x128b.warpx4 [%0], %1;" ::"r"(to), "l"(words), "n"(CTAS) : "memory");
}

// As tma_load, into the calling block of a pair; the bytes count for the barrier in the same place of block 0.
DEVICE void tma_load_pair(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier) {
  asm volatile(
    "{\n"
    ".reg .b32 there;\n"
    "mapa.shared::cluster.u32 there, %4, 0;\n"
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.cta_group::2 [%0], "
    "[%1, {%2, %3}], [there];\n"
    "}" ::"r"(shared_address(to)),
    "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
    : "memory");
}

#define TCGEN05_MMA(kind)                                                                             \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %4, 0;\n"                                        \
               "tcgen05.mma.cta_group::%5.kind::" kind " [%0], %1, %2, %3, add;\n}" ::"r"(sums),      \
               "l"(a), "l"(b), "r"(instruction), "r"(static_cast<uint32_t>(add)), "n"(CTAS)           \
               : "memory")
#define TCGEN05_MMA_TS(kind)                                                                          \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %4, 0;\n"                                        \
               "tcgen05.mma.cta_group::1.kind::" kind " [%0], [%1], %2, %3, add;\n}" ::"r"(sums),     \
               "r"(a), "l"(b), "r"(instruction), "r"(static_cast<uint32_t>(add))                      \
               : "memory")
#define TCGEN05_MMA_SCALED(kind)                                                                                \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %6, 0;\n"                                                  \
               "tcgen05.mma.cta_group::%7.kind::" kind " [%0], %1, %2, %3, [%4], [%5], add;\n}" ::"r"(sums),    \
               "l"(a), "l"(b), "r"(instruction), "r"(scales_a), "r"(scales_b), "r"(static_cast<uint32_t>(add)), \
               "n"(CTAS)                                                                                        \
               : "memory")
#endif

// sums[m][n] (+)= sum over k of a(m,k) b(n,k): row m in lane m, column n in column n from `sums` on. `a` and `b`
// describe 128 and as many rows as `instruction` has columns, or half of these in each block of a pair. Without `add`
// the sums begin.
#ifdef __CUDACC__
template <Tcgen05Format FORMAT, uint32_t CTAS = 1>
DEVICE void tcgen05_mma(uint32_t sums, uint64_t a, uint64_t b, uint32_t instruction, bool add) {
  static_assert(!tcgen05_scaled(FORMAT));
  if constexpr (FORMAT == Tcgen05Format::e4m3)
    TCGEN05_MMA("f8f6f4");
  else
    TCGEN05_MMA("f16");
}

// The same with a in tensor memory: row m in lane m, two numbers of 16 bits in each of eight columns from `a` on, that
// of the lower k in the lower half.
template <Tcgen05Format FORMAT>
DEVICE void tcgen05_mma_ts(uint32_t sums, uint32_t a, uint64_t b, uint32_t instruction, bool add) {
  static_assert(FORMAT == Tcgen05Format::f16 || FORMAT == Tcgen05Format::bf16);
  TCGEN05_MMA_TS("f16");
}

// With every number times the scale of its row and block: of row r in lane r % 32 (of all quarters) of column r / 32
// from `scales_a` or `scales_b` on, in the byte that `instruction` names (mxfp8), or the four blocks' in four bytes
// (nvfp4). Each block of a pair has the scales of its rows of a, and of all rows of b.
template <Tcgen05Format FORMAT, uint32_t CTAS = 1>
DEVICE void tcgen05_mma_scaled(uint32_t sums, uint64_t a, uint64_t b, uint32_t instruction, uint32_t scales_a,
                               uint32_t scales_b, bool add) {
  static_assert(tcgen05_scaled(FORMAT));
  if constexpr (FORMAT == Tcgen05Format::mxfp8)
    TCGEN05_MMA_SCALED("mxf8f6f4.block_scale.scale_vec::1X");
  else
    TCGEN05_MMA_SCALED("mxf4nvf4.block_scale.scale_vec::4X");
}
#else
inline void tcgen05_fence_after() { simt::runtime->tcgen05_fence(simt::this_thread(), true); }
inline void tcgen05_fence_before() { simt::runtime->tcgen05_fence(simt::this_thread(), false); }
template <uint32_t CTAS = 1>
void tcgen05_commit(Mbarrier& barrier, simt::Site site = simt::Site::current()) {
  simt::runtime->tcgen05_commit(simt::this_thread(), &barrier, CTAS, site);
}
template <uint32_t CTAS = 1>
void tcgen05_copy_words(uint32_t to, uint64_t words, simt::Site site = simt::Site::current()) {
  simt::runtime->tcgen05_copy_words(simt::this_thread(), to, words, CTAS, site);
}
inline void tma_load_pair(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier,
                          simt::Site site = simt::Site::current()) {
  simt::runtime->tma_load_pair(simt::this_thread(), to, map, static_cast<int32_t>(column), static_cast<int32_t>(row),
                               &barrier, site);
}
template <Tcgen05Format FORMAT, uint32_t CTAS = 1>
void tcgen05_mma(uint32_t sums, uint64_t a, uint64_t b, uint32_t instruction, bool add,
                 simt::Site site = simt::Site::current()) {
  static_assert(!tcgen05_scaled(FORMAT));
  simt::runtime->tcgen05_mma(
    simt::this_thread(), {static_cast<uint32_t>(FORMAT), sums, a, b, instruction, 0, 0, add, false, CTAS}, site);
}
template <Tcgen05Format FORMAT>
void tcgen05_mma_ts(uint32_t sums, uint32_t a, uint64_t b, uint32_t instruction, bool add,
                    simt::Site site = simt::Site::current()) {
  static_assert(FORMAT == Tcgen05Format::f16 || FORMAT == Tcgen05Format::bf16);
  simt::runtime->tcgen05_mma(
    simt::this_thread(), {static_cast<uint32_t>(FORMAT), sums, a, b, instruction, 0, 0, add, true}, site);
}
template <Tcgen05Format FORMAT, uint32_t CTAS = 1>
void tcgen05_mma_scaled(uint32_t sums, uint64_t a, uint64_t b, uint32_t instruction, uint32_t scales_a,
                        uint32_t scales_b, bool add, simt::Site site = simt::Site::current()) {
  static_assert(tcgen05_scaled(FORMAT));
  simt::runtime->tcgen05_mma(
    simt::this_thread(),
    {static_cast<uint32_t>(FORMAT), sums, a, b, instruction, scales_a, scales_b, add, false, CTAS}, site);
}
#endif
