// cast: y = x in another float format, four elements a thread. Block formats are only read.
//
// Bytes: 2 to 8 per element; a conversion each. Memory bandwidth is the limit: publishing 8 billion f32 weights as bf16
// moves 48 GB, 10 ms at 4.8 TB/s.
#include "lib/pack.h"
#include "lib/small_float.h"

// `padded` elements of y have bytes: a tensor ends in zeros up to a multiple of 4 bytes.
template <typename From, typename To>
DEVICE void cast(const void* x, void* y, uint64_t count, uint64_t padded) {
  const uint64_t first = 4 * thread_index();
  if (first + 4 <= count) {
    To::store4(y, first, From::load4(x, count, first));
  } else {
    for (uint64_t i = first; i < padded; i++) To::store(y, i, i < count ? From::load(x, count, i) : 0.0f);
  }
}

KERNEL(cast_f32_f16, 256, const float* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<F32, F16>(x, y, count, padded);
}

KERNEL(cast_f32_bf16, 256, const float* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<F32, BF16>(x, y, count, padded);
}

KERNEL(cast_f16_f32, 256, const uint16_t* x, float* y, uint64_t count, uint64_t padded) {
  cast<F16, F32>(x, y, count, padded);
}

KERNEL(cast_bf16_f32, 256, const uint16_t* x, float* y, uint64_t count, uint64_t padded) {
  cast<BF16, F32>(x, y, count, padded);
}

KERNEL(cast_f16_bf16, 256, const uint16_t* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<F16, BF16>(x, y, count, padded);
}

KERNEL(cast_bf16_f16, 256, const uint16_t* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<BF16, F16>(x, y, count, padded);
}

KERNEL(cast_f32_e4m3, 256, const float* x, uint8_t* y, uint64_t count, uint64_t padded) {
  cast<F32, E4M3>(x, y, count, padded);
}

KERNEL(cast_f16_e4m3, 256, const uint16_t* x, uint8_t* y, uint64_t count, uint64_t padded) {
  cast<F16, E4M3>(x, y, count, padded);
}

KERNEL(cast_bf16_e4m3, 256, const uint16_t* x, uint8_t* y, uint64_t count, uint64_t padded) {
  cast<BF16, E4M3>(x, y, count, padded);
}

KERNEL(cast_e4m3_f32, 256, const uint8_t* x, float* y, uint64_t count, uint64_t padded) {
  cast<E4M3, F32>(x, y, count, padded);
}

KERNEL(cast_e4m3_f16, 256, const uint8_t* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<E4M3, F16>(x, y, count, padded);
}

KERNEL(cast_e4m3_bf16, 256, const uint8_t* x, uint16_t* y, uint64_t count, uint64_t padded) {
  cast<E4M3, BF16>(x, y, count, padded);
}

KERNEL(cast_q8_0_f32, 256, const void* x, float* y, uint64_t count, uint64_t padded) {
  cast<Q8_0, F32>(x, y, count, padded);
}

KERNEL(cast_q4_0_f32, 256, const void* x, float* y, uint64_t count, uint64_t padded) {
  cast<Q4_0, F32>(x, y, count, padded);
}

KERNEL(cast_e4m3_128_f32, 256, const void* x, float* y, uint64_t count, uint64_t padded) {
  cast<E4M3_128, F32>(x, y, count, padded);
}

KERNEL(cast_mxfp8_f32, 256, const void* x, float* y, uint64_t count, uint64_t padded) {
  cast<MXFP8, F32>(x, y, count, padded);
}

KERNEL(cast_nvfp4_f32, 256, const void* x, float* y, uint64_t count, uint64_t padded) {
  cast<NVFP4, F32>(x, y, count, padded);
}
