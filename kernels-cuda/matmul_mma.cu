// matmul of 16-bit and quantized weights for more than a few rows, on tensor cores: y = activation(x w^T + bias) +
// residual. A block of four warps has 64 columns of y (rows of w: the m of a tile) by 64 rows of x (its n), a warp 32 by
// 32. The reduction goes in chunks of 64, the next of which is on its way from memory while one is multiplied; it is
// cut into `splits` ranges of `split_depth` where the tiles alone would leave multiprocessors idle: then y is
// [splits, rows, columns] for matmul_join.
//
// The result is as good as a product in f32. x is cut into three bf16 parts without loss; bf16 weights are one part,
// quants are whole numbers up to 128 and so one part, their scale is applied to the sum over each block of 32, and f16
// weights (11 bits) are two parts. Products of parts are exact in f32. The smallest parts are summed first, 32 numbers
// at a time, and these sums are added in f32: tensor cores may cut off addends two bits below an f32 of the largest, so
// that the two steps of 16 with the largest parts cost at most 2 * (17 / 4 + 2) = 13 units of 2^-24 of |x||w|, and all
// smaller parts together less than one; the contract allows 35 for 32 numbers. Of f16 the smallest product (third part
// of x, below 2^-15 of it, by second part of w, at most 2^-9 of it) is left out: one unit more.
//
// Per element of w and 64 rows of x: 192 multiply-adds (f16: 320) and 1 to 2 bytes. 4,096 rows of 4,096 by 4,096: 412
// GFLOP, 0.42 ms at 990 TFLOP/s (f16: 0.7 ms). A chunk costs a warp 96 mma, but about 450 instructions with loads from
// shared memory, cutting x and unpacking w: those limit, at 4 times the rate of f32 arithmetic. For 64 rows and less
// the weights limit: see matmul_vector.
#include "lib/epilogue.h"
#include "lib/mma.h"

constexpr uint32_t THREADS = 128, TILE = 64, CHUNK = 64, GROUP = 32;

// bf16 numbers as [row][k], two to a word. A lane takes 16 bytes of a row: eight neighbours along k, which serve as its
// four places in each of two steps of 16; any order of k does, if it is the same for both operands. Odd rows have their
// groups of 32 exchanged, so that the 16 bytes of eight lanes lie in different banks.
using Operand = uint32_t[TILE][CHUNK / 2];

DEVICE uint32_t word_of(uint32_t row, uint32_t k) { return ((k / GROUP) ^ (row & 1)) * (GROUP / 2) + k % GROUP / 2; }

// Weights of one format: `fetch` starts the loads of this thread's share of a chunk, `put` leaves it in shared memory
// as bf16 parts and scales. Elements outside [columns, end of the range) are zero.
struct Weights16 {
  static constexpr bool SCALED = false;
  uint2 raw[TILE * CHUNK / 4 / THREADS];

  DEVICE void fetch(const void* w, uint32_t column, uint32_t columns, uint32_t k, uint32_t end, uint32_t depth) {
    const uint2* tile = static_cast<const uint2*>(w) + static_cast<uint64_t>(column) * depth / 4;
#pragma unroll
    for (uint32_t i = 0; i < TILE * CHUNK / 4 / THREADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x, n = at / (CHUNK / 4), kk = k + at % (CHUNK / 4) * 4;
      raw[i] = column + n < columns && kk < end ? tile[(n * depth + kk) / 4] : make_uint2(0, 0);
    }
  }
};

struct WeightsBF16 : Weights16 {
  static constexpr uint32_t PARTS = 1;

  DEVICE void put(Operand (&part)[PARTS], float (&)[TILE][CHUNK / GROUP]) const {
#pragma unroll
    for (uint32_t i = 0; i < TILE * CHUNK / 4 / THREADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x, row = at / (CHUNK / 4), k = at % (CHUNK / 4) * 4;
      *reinterpret_cast<uint2*>(&part[0][row][word_of(row, k)]) = raw[i];
    }
  }
};

struct WeightsF16 : Weights16 {
  static constexpr uint32_t PARTS = 2;

  // The nearest bf16 leaves at most three bits, which are a bf16 too; no f16 is too large or too small for one.
  DEVICE static void cut(uint32_t pair, uint32_t& high, uint32_t& low) {
    const float x = f16_to_f32(pair & 0xffffu), y = f16_to_f32(pair >> 16);
    const uint32_t x0 = f32_to_bf16(x) << 16, y0 = f32_to_bf16(y) << 16;
    high = pack_upper(x0, y0);
    low = pack_upper(bits_of(x - float_of(x0)), bits_of(y - float_of(y0)));
  }

  DEVICE void put(Operand (&part)[PARTS], float (&)[TILE][CHUNK / GROUP]) const {
#pragma unroll
    for (uint32_t i = 0; i < TILE * CHUNK / 4 / THREADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x, row = at / (CHUNK / 4), k = at % (CHUNK / 4) * 4;
      uint2 high, low;
      cut(raw[i].x, high.x, low.x);
      cut(raw[i].y, high.y, low.y);
      *reinterpret_cast<uint2*>(&part[0][row][word_of(row, k)]) = high;
      *reinterpret_cast<uint2*>(&part[1][row][word_of(row, k)]) = low;
    }
  }
};

// Planar blocks: quants of BITS bits, then one f16 scale for each block of 32, one of which each thread takes.
template <uint32_t BITS>
struct WeightsBlocks {
  static constexpr bool SCALED = true;
  static constexpr uint32_t PARTS = 1, ELEMENTS = 128 / BITS, LOADS = TILE * CHUNK / ELEMENTS / THREADS;
  uint4 raw[LOADS];
  uint32_t scale;

  DEVICE void fetch(const void* w, uint32_t column, uint32_t columns, uint32_t k, uint32_t end, uint32_t depth) {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x;
      const uint32_t n = column + at / (CHUNK / ELEMENTS), kk = k + at % (CHUNK / ELEMENTS) * ELEMENTS;
      raw[i] = n < columns && kk < end
                 ? static_cast<const uint4*>(w)[(static_cast<uint64_t>(n) * depth + kk) / ELEMENTS]
                 : make_uint4(0, 0, 0, 0);
    }
    const uint32_t n = column + threadIdx.x / 2, kk = k + threadIdx.x % 2 * GROUP;
    const uint8_t* scales = static_cast<const uint8_t*>(w) + static_cast<uint64_t>(columns) * depth * BITS / 8;
    scale = n < columns && kk < end
              ? reinterpret_cast<const uint16_t*>(scales)[(static_cast<uint64_t>(n) * depth + kk) / GROUP]
              : 0;
  }

  // Two quants as bf16: 8388608 + u is an f32 for a u of up to 23 bits, and its distance from 8388608 + zero is exact.
  DEVICE static uint32_t pair(uint32_t first, uint32_t second) {
    constexpr float ZERO = 8388608.0f + (BITS == 8 ? 128.0f : 8.0f);
    return pack_upper(bits_of(float_of(0x4b000000u | first) - ZERO), bits_of(float_of(0x4b000000u | second) - ZERO));
  }

  // Eight neighbours as four words of bf16, from the word or two words they lie in.
  DEVICE static uint4 eight(uint32_t first, uint32_t second) {
    if constexpr (BITS == 4) return make_uint4(two(first, 0), two(first, 2), two(first, 4), two(first, 6));
    return make_uint4(two(first ^ 0x80808080u, 0), two(first ^ 0x80808080u, 2), two(second ^ 0x80808080u, 0),
                      two(second ^ 0x80808080u, 2));
  }
  DEVICE static uint32_t two(uint32_t word, uint32_t i) {
    constexpr uint32_t MASK = (1u << BITS) - 1;
    return pair(word >> (BITS * i) & MASK, word >> (BITS * (i + 1)) & MASK);
  }

  DEVICE void put(Operand (&part)[PARTS], float (&scales)[TILE][CHUNK / GROUP]) const {
    scales[threadIdx.x / 2][threadIdx.x % 2] = f16_to_f32(scale);
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x;
      const uint32_t row = at / (CHUNK / ELEMENTS), k = at % (CHUNK / ELEMENTS) * ELEMENTS;
      const uint32_t word[4] = {raw[i].x, raw[i].y, raw[i].z, raw[i].w};
#pragma unroll
      for (uint32_t j = 0; j < ELEMENTS / 8; j++)
        *reinterpret_cast<uint4*>(&part[0][row][word_of(row, k + 8 * j)]) =
          BITS == 4 ? eight(word[j], 0) : eight(word[2 * j % 4], word[(2 * j + 1) % 4]);
    }
  }
};

// This thread's share of a chunk of x, and its three parts.
struct Activations {
  static constexpr uint32_t LOADS = TILE * CHUNK / 4 / THREADS;
  float4 raw[LOADS];

  DEVICE void fetch(const float* x, uint32_t row, uint32_t rows, uint32_t k, uint32_t end, uint32_t depth) {
    const float4* tile = reinterpret_cast<const float4*>(x) + static_cast<uint64_t>(row) * depth / 4;
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x, t = at / (CHUNK / 4), kk = k + at % (CHUNK / 4) * 4;
      raw[i] = row + t < rows && kk < end ? tile[(t * depth + kk) / 4] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }

  DEVICE void put(Operand (&part)[3]) const {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      const uint32_t at = i * THREADS + threadIdx.x, row = at / (CHUNK / 4), k = at % (CHUNK / 4) * 4;
      uint32_t first[3], second[3];
      split_pair(first, raw[i].x, raw[i].y);
      split_pair(second, raw[i].z, raw[i].w);
#pragma unroll
      for (uint32_t p = 0; p < 3; p++)
        *reinterpret_cast<uint2*>(&part[p][row][word_of(row, k)]) = make_uint2(first[p], second[p]);
    }
  }
};

DEVICE uint4 eight_of(const Operand& part, uint32_t row, uint32_t group) {
  return *reinterpret_cast<const uint4*>(&part[row][word_of(row, group * GROUP + threadIdx.x % 4 * 8)]);
}

// sum += this warp's 32 x 32 products over one group of 32 k.
template <class Weights>
DEVICE void multiply_group(float (&sum)[2][4][4], const Operand (&w)[Weights::PARTS], const Operand (&x)[3],
                           const float (&scales)[TILE][CHUNK / GROUP], uint32_t m_first, uint32_t n_first,
                           uint32_t group) {
  const uint32_t g = threadIdx.x % 32 / 4;
  uint4 upper[Weights::PARTS][2], lower[Weights::PARTS][2];
#pragma unroll
  for (uint32_t p = 0; p < Weights::PARTS; p++)
#pragma unroll
    for (uint32_t m = 0; m < 2; m++) {
      upper[p][m] = eight_of(w[p], m_first + m * 16 + g, group);
      lower[p][m] = eight_of(w[p], m_first + m * 16 + g + 8, group);
    }
  float part[2][4][4] = {};
#pragma unroll
  for (uint32_t xp = 3; xp-- > 0;) {
    uint4 right[4];
#pragma unroll
    for (uint32_t n = 0; n < 4; n++) right[n] = eight_of(x[xp], n_first + n * 8 + g, group);
#pragma unroll
    for (uint32_t wp = Weights::PARTS; wp-- > 0;) {
      if (xp == 2 && wp == 1) continue;
#pragma unroll
      for (uint32_t step = 0; step < 2; step++)
#pragma unroll
        for (uint32_t m = 0; m < 2; m++)
#pragma unroll
          for (uint32_t n = 0; n < 4; n++) {
            const uint4 up = upper[wp][m], low = lower[wp][m];
            const uint32_t a[4] = {step ? up.z : up.x, step ? low.z : low.x, step ? up.w : up.y, step ? low.w : low.y};
            const uint32_t b[2] = {step ? right[n].z : right[n].x, step ? right[n].w : right[n].y};
            mma_m16n8k16_bf16(part[m][n], a, b);
          }
    }
  }
#pragma unroll
  for (uint32_t m = 0; m < 2; m++) {
    const float up = Weights::SCALED ? scales[m_first + m * 16 + g][group] : 1.0f;
    const float low = Weights::SCALED ? scales[m_first + m * 16 + g + 8][group] : 1.0f;
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) sum[m][n][i] += (i < 2 ? up : low) * part[m][n][i];
  }
}

template <class Weights>
DEVICE void matmul_mma(const float* x, const void* w, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                       uint32_t depth, uint32_t splits, uint32_t split_depth) {
  SHARED(x_parts, Operand[3]);
  SHARED(w_parts, Operand[Weights::PARTS]);
  SHARED(scales, float[TILE][CHUNK / GROUP]);
  const uint32_t across = (rows + TILE - 1) / TILE;
  const uint32_t split = blockIdx.x % splits, tile = blockIdx.x / splits;
  const uint32_t row = tile % across * TILE, column = tile / across * TILE;
  const uint32_t first = split * split_depth, end = depth - first < split_depth ? depth : first + split_depth;
  const uint32_t warp = threadIdx.x / 32, m_first = warp % 2 * 32, n_first = warp / 2 * 32;

  Activations xs;
  Weights ws;
  xs.fetch(x, row, rows, first, end, depth);
  ws.fetch(w, column, columns, first, end, depth);
  float sum[2][4][4] = {};
  for (uint32_t k = first; k < end; k += CHUNK) {
    __syncthreads();  // until here the chunk before may still be read
    xs.put(x_parts);
    ws.put(w_parts, scales);
    __syncthreads();
    if (k + CHUNK < end) {
      xs.fetch(x, row, rows, k + CHUNK, end, depth);
      ws.fetch(w, column, columns, k + CHUNK, end, depth);
    }
    if (row + n_first < rows)  // few rows leave half of the warps nothing to multiply
#pragma unroll 1
      for (uint32_t group = 0; group < CHUNK / GROUP; group++)
        multiply_group<Weights>(sum, w_parts, x_parts, scales, m_first, n_first, group);
  }

  // Through shared memory, so that neighbouring threads store neighbouring columns; rows are 4 floats longer than needed,
  // which puts the sums of a warp into 32 different banks.
  float(&sums)[TILE][TILE + 4] = *reinterpret_cast<float(*)[TILE][TILE + 4]>(&x_parts);
  const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  __syncthreads();  // until here the last chunk may still be read
#pragma unroll
  for (uint32_t m = 0; m < 2; m++)
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
#pragma unroll
      for (uint32_t i = 0; i < 4; i++)
        sums[n_first + n * 8 + t * 2 + i % 2][m_first + m * 16 + g + i / 2 * 8] = sum[m][n][i];
  __syncthreads();
  const uint32_t n = threadIdx.x % TILE;
  if (column + n < columns)
    for (uint32_t r = threadIdx.x / TILE; r < TILE && row + r < rows; r += THREADS / TILE)
      epilogue.store(static_cast<uint64_t>(split) * rows + row + r, column + n, sums[r][n]);
}

KERNEL(matmul_mma_f16, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_mma<WeightsF16>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth, splits,
                         split_depth);
}

KERNEL(matmul_mma_bf16, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_mma<WeightsBF16>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth, splits,
                          split_depth);
}

KERNEL(matmul_mma_q8_0, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_mma<WeightsBlocks<8>>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth,
                               splits, split_depth);
}

KERNEL(matmul_mma_q4_0, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       float* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t splits, uint32_t split_depth) {
  matmul_mma<WeightsBlocks<4>>(x, w, {y, columns, bias, bias_format, activation, residual}, rows, columns, depth,
                               splits, split_depth);
}
