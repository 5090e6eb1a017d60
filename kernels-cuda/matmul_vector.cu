// matmul for one to four rows (decoding): y = activation(x w^T + bias) + residual. A block has four columns of y; its
// threads split the reduction, each taking 16 bytes of each of the four rows of w at a time, dequantized in registers
// once for all rows of x, which come from L1. matmul_gated, y = activation(gate) * up: a block has two columns, of each
// the row of w that makes its gate and the one that makes its up.
//
// Every weight is read once: 4,096 by 4,096 are 67 MB in f32, 34 MB in f16 and bf16, 17.8 MB in q8_0, 9.4 MB in
// q4_0: 14, 7, 3.7 and 2 us at 4.8 TB/s, and 2 flops an element and row. Memory bandwidth limits as long as enough
// bytes are on their way: 4.8 TB/s at 0.8 us of latency are 29 KB for each of 132 multiprocessors, where the
// registers let 512 threads or more have four loads of 16 bytes each on their way: 32 KB. In q4_0 a multiprocessor
// gets 35 weights a cycle at that speed and has 128 lanes for them, 3.6 instructions each: one row takes about 3.7, one
// to cut a quant out of its word, one to make it a number, a multiply-add and shares of shifts, loads and x. There
// instructions limit as much as memory.
#include <type_traits>

#include "lib/epilogue.h"
#include "lib/reduce.h"
#include "lib/small_float.h"

constexpr uint32_t THREADS = 128, COLUMNS = 4;

// A format's chunk of `words` u32: `four` gives elements 4 i to 4 i + 3 without the scale, which holds for the chunk.
struct ChunkF32 {
  static constexpr uint32_t elements = 4, words = 4;
  DEVICE static float scale(const void*, uint64_t, uint64_t) { return 1.0f; }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t) {
    return make_float4(float_of(word[0]), float_of(word[1]), float_of(word[2]), float_of(word[3]));
  }
};

// Rows of 16-bit elements that are not whole 16 bytes are taken 8 bytes at a time.
template <uint32_t WORDS>
struct ChunkF16 {
  static constexpr uint32_t elements = 2 * WORDS, words = WORDS;
  DEVICE static float scale(const void*, uint64_t, uint64_t) { return 1.0f; }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) {
    const uint32_t low = word[2 * i], high = word[2 * i + 1];
    return make_float4(f16_to_f32(low & 0xffffu), f16_to_f32(low >> 16), f16_to_f32(high & 0xffffu),
                       f16_to_f32(high >> 16));
  }
};

template <uint32_t WORDS>
struct ChunkBF16 {
  static constexpr uint32_t elements = 2 * WORDS, words = WORDS;
  DEVICE static float scale(const void*, uint64_t, uint64_t) { return 1.0f; }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) {
    const uint32_t low = word[2 * i], high = word[2 * i + 1];
    return make_float4(float_of(low << 16), float_of(low & 0xffff0000u), float_of(high << 16),
                       float_of(high & 0xffff0000u));
  }
};

struct ChunkQ8_0 {
  static constexpr uint32_t elements = 16, words = 4;
  DEVICE static float scale(const void* w, uint64_t count, uint64_t index) {
    return Q8_0::scale(w, count, index / 32);
  }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) {
    const uint32_t q = word[i];
    return make_float4(static_cast<float>(static_cast<int8_t>(q)), static_cast<float>(static_cast<int8_t>(q >> 8)),
                       static_cast<float>(static_cast<int8_t>(q >> 16)),
                       static_cast<float>(static_cast<int8_t>(q >> 24)));
  }
};

struct ChunkQ4_0 {
  static constexpr uint32_t elements = 32, words = 4;
  DEVICE static float scale(const void* w, uint64_t count, uint64_t index) {
    return Q4_0::scale(w, count, index / 32);
  }
  // Each in its place, times 1, 16, 256 and 4,096: the f32 of bits 0x4b000000 + u is 2^23 + u.
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) {
    const uint32_t q = word[i / 2] >> (i % 2 * 16);
    const auto placed = [=](uint32_t place) {
      return float_of(0x4b000000u | (q & 15u << 4 * place)) - (8388608.0f + static_cast<float>(8u << 4 * place));
    };
    return make_float4(placed(0), placed(1), placed(2), placed(3));
  }
};

// Four of x for four weights as `Chunk::four` gives them.
template <class Chunk>
DEVICE float4 matched(float4 x) {
  if constexpr (std::is_same_v<Chunk, ChunkQ4_0>)
    return make_float4(x.x, x.y * 0x1p-4f, x.z * 0x1p-8f, x.w * 0x1p-12f);
  else
    return x;
}

// Quants in e4m3, of blocks of 128 or 32.
template <class Blocks>
struct ChunkE4M3 {
  static constexpr uint32_t elements = 16, words = 4;
  DEVICE static float scale(const void* w, uint64_t count, uint64_t index) {
    return Blocks::scale(w, count, index / Blocks::BLOCK);
  }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) { return e4m3_four_to_f32(word[i]); }
};

// A block, 8 bytes at a time.
struct ChunkNVFP4 {
  static constexpr uint32_t elements = 16, words = 2;
  DEVICE static float scale(const void* w, uint64_t count, uint64_t index) {
    return NVFP4::scale(w, count, index / NVFP4::BLOCK);
  }
  DEVICE static float4 four(const uint32_t (&word)[words], uint32_t i) {
    const uint32_t q = word[i / 2] >> (i % 2 * 16);
    return make_float4(e2m1_to_f32(q), e2m1_to_f32(q >> 4), e2m1_to_f32(q >> 8), e2m1_to_f32(q >> 12));
  }
};

template <class Chunk, uint32_t ELEMENT_BITS>
DEVICE void load_chunk(uint32_t (&word)[Chunk::words], const void* w, uint64_t index) {
  const uint8_t* at = static_cast<const uint8_t*>(w) + index * ELEMENT_BITS / 8;
  if constexpr (Chunk::words == 4) {
    const uint4 v = *reinterpret_cast<const uint4*>(at);
    word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
  } else {
    const uint2 v = *reinterpret_cast<const uint2*>(at);
    word[0] = v.x, word[1] = v.y;
  }
}

// X is the format of x. `ups` is the row of w at which ups begin, as many as y has columns; 0 where nothing is gated.
template <class Chunk, class X, uint32_t ROWS>
DEVICE void matmul_vector(const void* x, const void* w, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                          uint32_t depth, uint32_t ups) {
  constexpr uint32_t BITS = Chunk::words * 32 / Chunk::elements;
  const uint32_t own = ups == 0 ? COLUMNS : COLUMNS / 2, first = blockIdx.x * own;
  const uint64_t count = static_cast<uint64_t>(ups + columns) * depth;
  uint64_t start[COLUMNS];  // columns past the end repeat the last one, and are not stored
#pragma unroll
  for (uint32_t c = 0; c < COLUMNS; c++) {
    const uint32_t column = first + c % own;
    start[c] = (static_cast<uint64_t>(column < columns ? column : columns - 1) + c / own * ups) * depth;
  }

  float sum[ROWS][COLUMNS] = {};
  for (uint32_t k = threadIdx.x * Chunk::elements; k < depth; k += THREADS * Chunk::elements) {
    uint32_t word[COLUMNS][Chunk::words];
    float scale[COLUMNS];
#pragma unroll
    for (uint32_t c = 0; c < COLUMNS; c++) {
      load_chunk<Chunk, BITS>(word[c], w, start[c] + k);
      scale[c] = Chunk::scale(w, count, start[c] + k);
    }
    float part[ROWS][COLUMNS] = {};
#pragma unroll
    for (uint32_t i = 0; i < Chunk::elements / 4; i++) {
      float4 weight[COLUMNS];
#pragma unroll
      for (uint32_t c = 0; c < COLUMNS; c++) weight[c] = Chunk::four(word[c], i);
#pragma unroll
      for (uint32_t r = 0; r < ROWS; r++) {
        if (r >= rows) continue;
        const float4 v = matched<Chunk>(
          X::load4(x, static_cast<uint64_t>(rows) * depth, static_cast<uint64_t>(r) * depth + k + 4 * i));
#pragma unroll
        for (uint32_t c = 0; c < COLUMNS; c++) {
          part[r][c] += v.x * weight[c].x;
          part[r][c] += v.y * weight[c].y;
          part[r][c] += v.z * weight[c].z;
          part[r][c] += v.w * weight[c].w;
        }
      }
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
#pragma unroll
      for (uint32_t c = 0; c < COLUMNS; c++) sum[r][c] += scale[c] * part[r][c];
  }

  SHARED(of_warp, float[THREADS / 32][ROWS][COLUMNS]);
#pragma unroll
  for (uint32_t r = 0; r < ROWS; r++)
#pragma unroll
    for (uint32_t c = 0; c < COLUMNS; c++) {
      const float total = warp_sum(sum[r][c]);
      if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32][r][c] = total;
    }
  __syncthreads();
  const uint32_t r = threadIdx.x / COLUMNS, c = threadIdx.x % COLUMNS;
  if (r >= rows || c >= own || first + c >= columns) return;
  const auto total = [&](uint32_t column) {
    float sum = of_warp[0][r][column];
    for (uint32_t warp = 1; warp < THREADS / 32; warp++) sum += of_warp[warp][r][column];
    return sum;
  };
  if (ups == 0)
    epilogue.store(r, first + c, total(c));
  else
    epilogue.store_gated(r, first + c, total(c), total(c + own));
}

// One row, the common case, needs a quarter of the registers.
template <class Chunk, class X = F32>
DEVICE void matmul_rows(const void* x, const void* w, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                        uint32_t depth, uint32_t ups) {
  if (rows == 1)
    matmul_vector<Chunk, X, 1>(x, w, epilogue, rows, columns, depth, ups);
  else
    matmul_vector<Chunk, X, 4>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_f32, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkF32>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_f16, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  if (depth % 8 == 0)
    matmul_rows<ChunkF16<4>>(x, w, epilogue, rows, columns, depth, ups);
  else
    matmul_rows<ChunkF16<2>>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_bf16, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  if (depth % 8 == 0)
    matmul_rows<ChunkBF16<4>>(x, w, epilogue, rows, columns, depth, ups);
  else
    matmul_rows<ChunkBF16<2>>(x, w, epilogue, rows, columns, depth, ups);
}

// x in 16 bits too.
KERNEL(matmul_vector_f16_x16, 128, const void* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  if (depth % 8 == 0)
    matmul_rows<ChunkF16<4>, F16>(x, w, epilogue, rows, columns, depth, ups);
  else
    matmul_rows<ChunkF16<2>, F16>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_bf16_x16, 128, const void* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  if (depth % 8 == 0)
    matmul_rows<ChunkBF16<4>, BF16>(x, w, epilogue, rows, columns, depth, ups);
  else
    matmul_rows<ChunkBF16<2>, BF16>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_q8_0, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkQ8_0>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_q4_0, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkQ4_0>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_e4m3_128, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkE4M3<E4M3_128>>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_mxfp8, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkE4M3<MXFP8>>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_nvfp4, 128, const float* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkNVFP4>(x, w, epilogue, rows, columns, depth, ups);
}

// x in blocks too.
KERNEL(matmul_vector_e4m3_128_both, 128, const void* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkE4M3<E4M3_128>, E4M3_128>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_mxfp8_both, 128, const void* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkE4M3<MXFP8>, MXFP8>(x, w, epilogue, rows, columns, depth, ups);
}

KERNEL(matmul_vector_nvfp4_both, 128, const void* x, STREAMED const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t ups, uint32_t bias_format, uint32_t activation, uint32_t output_format) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_rows<ChunkNVFP4, NVFP4>(x, w, epilogue, rows, columns, depth, ups);
}
