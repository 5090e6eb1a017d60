// Tensor core products of bf16 with sums in f32, and how they serve other numbers: as sums of bf16 numbers.
#pragma once
#include "storage.h"

// c[i][j] += a[i] b[j] for tiles of a warp, each a of 16 x 16 and b of 16 x 8 bf16. With g = lane / 4 and t = lane %
// 4 (PTX ISA, mma.m16n8k16): an a holds rows g (words 0 and 2) and g + 8 (1 and 3) at columns 2 t, 2 t + 1 (0 and 1)
// and eight to the right (2 and 3); a b rows 2 t, 2 t + 1 (word 0) and eight below (1) of column g; a c rows g (0
// and 1) and g + 8 (2 and 3) of columns 2 t and 2 t + 1. The lower index is in the lower half of a word.
#ifdef __CUDACC__
template <uint32_t M, uint32_t N>
DEVICE void mma_m16n8k16_bf16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
#pragma unroll
  for (uint32_t i = 0; i < M; i++)
#pragma unroll
    for (uint32_t j = 0; j < N; j++)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(c[i][j][0]), "+f"(c[i][j][1]), "+f"(c[i][j][2]), "+f"(c[i][j][3])
          : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
}
#else
// Products of bf16 are exact in f32; the device sums them in an order and with roundings of its own.
template <uint32_t M, uint32_t N>
void mma_m16n8k16_bf16(float (&c)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
  struct Words {
    uint32_t a[M][4], b[N][2];
  } of_lane[32];
  const uint32_t lane = threadIdx.x % 32;
  // The lanes meet in the first one's array: all stacks are memory of one process.
  Words* warp = reinterpret_cast<Words*>(__shfl_sync(FULL_WARP, reinterpret_cast<uint64_t>(of_lane), 0));
  std::memcpy(warp[lane].a, a, sizeof a);
  std::memcpy(warp[lane].b, b, sizeof b);
  __syncwarp();
  // Rows g and g + 8 of each a by columns 2 t and 2 t + 1 of each b, laid out for the compiler's vectors.
  float left[16][2 * M], right[16][2 * N], sum[2 * M][2 * N];
  for (uint32_t k = 0; k < 16; k++) {
    const uint32_t t = k % 8 / 2, word = k / 8, shift = k % 2 * 16;
    for (uint32_t i = 0; i < 2 * M; i++)
      left[k][i] = bf16_to_f32(warp[lane / 4 * 4 + t].a[i / 2][word * 2 + i % 2] >> shift & 0xffffu);
    for (uint32_t j = 0; j < 2 * N; j++)
      right[k][j] = bf16_to_f32(warp[(lane % 4 * 2 + j % 2) * 4 + t].b[j / 2][word] >> shift & 0xffffu);
  }
  for (uint32_t i = 0; i < 2 * M; i++)
    for (uint32_t j = 0; j < 2 * N; j++) sum[i][j] = c[i / 2][j / 2][i % 2 * 2 + j % 2];
  for (uint32_t k = 0; k < 16; k++)
    for (uint32_t i = 0; i < 2 * M; i++)
      for (uint32_t j = 0; j < 2 * N; j++) sum[i][j] += left[k][i] * right[k][j];
  for (uint32_t i = 0; i < 2 * M; i++)
    for (uint32_t j = 0; j < 2 * N; j++) c[i / 2][j / 2][i % 2 * 2 + j % 2] = sum[i][j];
  __syncwarp();
}
#endif

// The nearest bf16 of two f32, the first in the lower half.
DEVICE uint32_t bf16_pair(float low, float high) {
#ifdef __CUDACC__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return f32_to_bf16(low) | f32_to_bf16(high) << 16;
#endif
}

// What two f32 differ by from a pair of bf16; exact, if that is their nearest.
struct Rest {
  float low, high;
  DEVICE Rest(float x, float y, uint32_t pair)
      : low(x - float_of(pair << 16)), high(y - float_of(pair & 0xffff0000u)) {}
};

// Formats as sums of bf16 parts, each at most 2^-8 of the one before; `four` are four neighbours in memory, `split`
// takes two of them.
//
// The 24 bits of an f32 are three parts. This is exact as long as the last one is not below 2^-133, the smallest
// bf16: numbers below 2^-109 may lose bits there, an absolute error below 2^-133 each. Numbers above 3.39e38, the
// largest bf16, become infinite.
struct PartsF32 {
  static constexpr uint32_t PARTS = 3;
  using Element = float;
  using Four = float4;
  DEVICE static Four four(float a, float b, float c, float d) { return make_float4(a, b, c, d); }
  DEVICE static float element(const Four& v, uint32_t i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
  DEVICE static void split(uint32_t (&part)[PARTS], float x, float y) {
    part[0] = bf16_pair(x, y);
    const Rest first(x, y, part[0]);
    part[1] = bf16_pair(first.low, first.high);
    const Rest second(first.low, first.high, part[1]);
    part[2] = bf16_pair(second.low, second.high);
  }
};

struct Parts16 {
  using Element = uint16_t;
  using Four = uint2;
  DEVICE static Four four(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return make_uint2(a | b << 16, c | d << 16);
  }
  DEVICE static uint32_t element(const Four& v, uint32_t i) { return (i < 2 ? v.x : v.y) >> (i % 2 * 16) & 0xffffu; }
};

// 11 bits are two parts; every f16, subnormal or not, is far inside the range of bf16.
struct PartsF16 : Parts16 {
  static constexpr uint32_t PARTS = 2;
  DEVICE static void split(uint32_t (&part)[PARTS], uint32_t a, uint32_t b) {
    const float x = f16_to_f32(a), y = f16_to_f32(b);
    part[0] = bf16_pair(x, y);
    const Rest rest(x, y, part[0]);
    part[1] = bf16_pair(rest.low, rest.high);
  }
};

struct PartsBF16 : Parts16 {
  static constexpr uint32_t PARTS = 1;
  DEVICE static void split(uint32_t (&part)[PARTS], uint32_t a, uint32_t b) { part[0] = a | b << 16; }
};
