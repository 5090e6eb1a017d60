// A tile of a matrix product in f32: c[m,n] = sum over k of a(m,k) b(n,k), by 256 threads with 4 x 8 sums each. The
// operands differ in which of their two indices runs along memory, so the forward product and both gradients share
// this core. The order of the sum is fixed: one chain of additions over k per element.
//
// A step of 16 k loads 12 KB and takes 131,072 multiply-adds: 1,024 cycles of the 128 f32 lanes of a multiprocessor,
// during which 12 KB need 12 bytes a cycle of the 25 that L2 gives each of 132. Shared memory: a warp reads two float4
// of b and one of a per 32 multiply-adds of each lane, half of what its bandwidth allows. So arithmetic limits.
#pragma once
#include "storage.h"

constexpr uint32_t TILE_M = 64, TILE_N = 128, TILE_K = 16, TILE_THREADS = 256;

// A row-major matrix of f32, f16 or bf16 whose elements outside are zero.
template <class Format>
struct Matrix {
  const void* data;
  uint32_t rows, width;

  // Elements `column` to `column + 3` of a row; `column` is a multiple of 4.
  DEVICE float4 load4(uint32_t row, uint32_t column, uint32_t row_end, uint32_t column_end) const {
    if (row >= row_end || column >= column_end) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const uint64_t count = static_cast<uint64_t>(rows) * width, at = static_cast<uint64_t>(row) * width + column;
    if (width % 4 == 0) return Format::load4(data, count, at);
    const uint32_t left = column_end - column;
    return make_float4(Format::load(data, count, at), left > 1 ? Format::load(data, count, at + 1) : 0.0f,
                       left > 2 ? Format::load(data, count, at + 2) : 0.0f,
                       left > 3 ? Format::load(data, count, at + 3) : 0.0f);
  }
};

// Where an operand's tile of SIZE elements along m (or n) and TILE_K along k comes from: `load` gives the i-th group of
// four of its SIZE * TILE_K / 4, `put` places it in shared memory as [k][m]. This one is stored as [m][k].
template <class Format>
struct AlongK {
  Matrix<Format> matrix;

  template <uint32_t SIZE>
  DEVICE float4 load(uint32_t first, uint32_t k, uint32_t k_end, uint32_t i) const {
    return matrix.load4(first + m_of<SIZE>(i), k + k_of<SIZE>(i), matrix.rows, k_end);
  }

  template <uint32_t SIZE, uint32_t STRIDE>
  DEVICE static void put(float (&tile)[TILE_K][STRIDE], uint32_t i, float4 v) {
    const uint32_t m = m_of<SIZE>(i), k = k_of<SIZE>(i);
    tile[k][m] = v.x;
    tile[k + 1][m] = v.y;
    tile[k + 2][m] = v.z;
    tile[k + 3][m] = v.w;
  }

  // A warp takes 32 bytes each of 16 rows: whole sectors of memory, and stores into 32 different banks, as four rows of
  // shared memory are 16 banks apart.
  template <uint32_t SIZE>
  DEVICE static uint32_t m_of(uint32_t i) {
    return i / 2 % SIZE;
  }
  template <uint32_t SIZE>
  DEVICE static uint32_t k_of(uint32_t i) {
    return i / (2 * SIZE) * 8 + i % 2 * 4;
  }
};

// Stored as [k][m].
template <class Format>
struct AlongM {
  Matrix<Format> matrix;

  template <uint32_t SIZE>
  DEVICE float4 load(uint32_t first, uint32_t k, uint32_t k_end, uint32_t i) const {
    return matrix.load4(k + i / (SIZE / 4), first + i % (SIZE / 4) * 4, k_end, matrix.width);
  }

  template <uint32_t SIZE, uint32_t STRIDE>
  DEVICE static void put(float (&tile)[TILE_K][STRIDE], uint32_t i, float4 v) {
    *reinterpret_cast<float4*>(&tile[i / (SIZE / 4)][i % (SIZE / 4) * 4]) = v;
  }
};

// Calls store(m, n, sum) for this thread's elements of the tile at (m_first, n_first), summed over k_first <= k < k_end.
template <class A, class B, class Store>
DEVICE void tile_product(const A& a, const B& b, uint32_t m_first, uint32_t n_first, uint32_t k_first, uint32_t k_end,
                         const Store& store) {
  SHARED(tile_a, float[TILE_K][TILE_M + 4]);
  SHARED(tile_b, float[TILE_K][TILE_N + 4]);
  constexpr uint32_t GROUPS_A = TILE_M * TILE_K / 4 / TILE_THREADS, GROUPS_B = TILE_N * TILE_K / 4 / TILE_THREADS;
  const uint32_t thread = threadIdx.x, m = thread / 16 * 4, n = thread % 16 * 4;
  float4 next_a[GROUPS_A], next_b[GROUPS_B];
  const auto fetch = [&](uint32_t k) {
    for (uint32_t i = 0; i < GROUPS_A; i++)
      next_a[i] = a.template load<TILE_M>(m_first, k, k_end, i * TILE_THREADS + thread);
    for (uint32_t i = 0; i < GROUPS_B; i++)
      next_b[i] = b.template load<TILE_N>(n_first, k, k_end, i * TILE_THREADS + thread);
  };

  float sum[4][8] = {};
  fetch(k_first);
  for (uint32_t k = k_first; k < k_end; k += TILE_K) {
    __syncthreads();  // until here the tiles before may still be read
    for (uint32_t i = 0; i < GROUPS_A; i++)
      A::template put<TILE_M>(tile_a, i * TILE_THREADS + thread, next_a[i]);
    for (uint32_t i = 0; i < GROUPS_B; i++)
      B::template put<TILE_N>(tile_b, i * TILE_THREADS + thread, next_b[i]);
    __syncthreads();
    if (k + TILE_K < k_end) fetch(k + TILE_K);
#pragma unroll
    for (uint32_t kk = 0; kk < TILE_K; kk++) {
      // Columns n to n + 3 of both halves of the tile: eight neighbours would make lanes meet in the same banks.
      const float4 av = *reinterpret_cast<const float4*>(&tile_a[kk][m]);
      const float4 b0 = *reinterpret_cast<const float4*>(&tile_b[kk][n]);
      const float4 b1 = *reinterpret_cast<const float4*>(&tile_b[kk][TILE_N / 2 + n]);
      const float left[4] = {av.x, av.y, av.z, av.w};
      const float right[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
      for (uint32_t i = 0; i < 4; i++)
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) sum[i][j] += left[i] * right[j];
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; i++)
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) store(m_first + m + i, n_first + n + j % 4 + j / 4 * (TILE_N / 2), sum[i][j]);
}
