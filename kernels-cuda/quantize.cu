// quantize: x in blocks of a planar format, the very bytes that src/tensor/block_format.ts gives. Four elements a lane;
// the lanes of a block agree on its scale.
//
// Bytes: 4 (2 of 16-bit x) per element read, 1.06 to 0.56 written; about 25 operations, of which a division takes 10
// (mxfp8 has none). Of f32 x, 4 elements a cycle and multiprocessor at 4.8 TB/s are 100 operations of 128, and memory
// bandwidth is the limit; of 16-bit x, 6.5 elements would be 160, and arithmetic is: 0.8 of bandwidth. A tensor with a
// scale of its own is read twice.
#include "lib/quantize.h"
#include "lib/reduce.h"
#include "lib/stored.h"

// Blocks lie along the rows of x.
template <class To>
DEVICE void quantize(const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  const uint64_t i = thread_index(), count = blocks * To::BLOCK;
  const bool live = 4 * i < count;
  with_format(x_format, [&](auto format) {
    const float4 four = live ? decltype(format)::load4(x, count, 4 * i) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    quantize_four<To>(y, blocks, i, four, live);
  });
}

// Blocks lie along the columns of x, which become the rows of y: a thread block takes 128 rows of 32 columns through
// shared memory, a warp the rows of one column at a time. Row r is kept at place 32 (r % 4) + r / 4, so that the lanes
// that take fours of rows find them in different banks.
template <class To>
DEVICE void quantize_transposed(const void* x, uint8_t* y, uint32_t x_format, uint32_t rows, uint32_t columns) {
  SHARED(tile, float[128][33]);
  const uint32_t across = (columns + 31) / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t first_row = blockIdx.x / across * 128, first_column = blockIdx.x % across * 32;
  const uint64_t count = static_cast<uint64_t>(rows) * columns;
  with_format(x_format, [&](auto format) {
    for (uint32_t r = warp; r < 128; r += 8)
      if (first_row + r < rows && first_column + lane < columns)
        tile[r % 4 * 32 + r / 4][lane] =
          decltype(format)::load(x, count, static_cast<uint64_t>(first_row + r) * columns + first_column + lane);
  });
  __syncthreads();
  for (uint32_t c = warp; c < 32; c += 8) {
    const bool live = first_row + 4 * lane < rows && first_column + c < columns;
    const float4 four = live ? make_float4(tile[lane][c], tile[32 + lane][c], tile[64 + lane][c], tile[96 + lane][c])
                             : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const uint64_t at = static_cast<uint64_t>(first_column + c) * rows + first_row + 4 * lane;
    quantize_four<To>(y, count / To::BLOCK, at / 4, four, live);
  }
}

// The largest magnitude of a strip of x for each block of threads, as bits: NaN is larger than all numbers.
KERNEL(quantize_largest, 256, const void* x, uint32_t* largest, uint32_t x_format, uint64_t count) {
  uint32_t best = 0;
  with_format(x_format, [&](auto format) {
    for (uint64_t i = thread_index(); 4 * i < count; i += static_cast<uint64_t>(gridDim.x) * 256)
      best = larger_magnitude(best, decltype(format)::load4(x, count, 4 * i));
  });
  for (uint32_t step = 16; step > 0; step /= 2) best = max(best, __shfl_xor_sync(FULL_WARP, best, step));
  best = exchange_warps<256>(best, 0u);
  for (uint32_t step = 4; step > 0; step /= 2) best = max(best, __shfl_xor_sync(FULL_WARP, best, step));
  if (threadIdx.x == 0) largest[blockIdx.x] = best;
}

// The scale of a whole tensor of nvfp4 from the largest of `count` strips, at the end of y.
KERNEL(quantize_tensor_scale, 32, const uint32_t* largest, uint8_t* y, uint32_t count, uint64_t blocks) {
  uint32_t best = 0;
  for (uint32_t i = threadIdx.x; i < count; i += 32) best = max(best, largest[i]);
  for (uint32_t step = 16; step > 0; step /= 2) best = max(best, __shfl_xor_sync(FULL_WARP, best, step));
  if (threadIdx.x == 0) *tensor_scale_of(y, blocks) = ToNVFP4::tensor_scale(best);
}

KERNEL(quantize_q8_0, 256, const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  quantize<ToQ8_0>(x, y, x_format, blocks);
}

KERNEL(quantize_q4_0, 256, const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  quantize<ToQ4_0>(x, y, x_format, blocks);
}

KERNEL(quantize_e4m3_128, 256, const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  quantize<ToE4M3_128>(x, y, x_format, blocks);
}

KERNEL(quantize_mxfp8, 256, const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  quantize<ToMXFP8>(x, y, x_format, blocks);
}

KERNEL(quantize_nvfp4, 256, const void* x, uint8_t* y, uint32_t x_format, uint64_t blocks) {
  quantize<ToNVFP4>(x, y, x_format, blocks);
}

KERNEL(quantize_e4m3_128_transposed, 256, const void* x, uint8_t* y, uint32_t x_format, uint32_t rows,
       uint32_t columns) {
  quantize_transposed<ToE4M3_128>(x, y, x_format, rows, columns);
}

KERNEL(quantize_mxfp8_transposed, 256, const void* x, uint8_t* y, uint32_t x_format, uint32_t rows,
       uint32_t columns) {
  quantize_transposed<ToMXFP8>(x, y, x_format, rows, columns);
}

KERNEL(quantize_nvfp4_transposed, 256, const void* x, uint8_t* y, uint32_t x_format, uint32_t rows,
       uint32_t columns) {
  quantize_transposed<ToNVFP4>(x, y, x_format, rows, columns);
}
