// cast: y = x in another float format, four elements a thread.
//
// Bytes: 4 to 6 per element; a conversion each. Memory bandwidth is the limit: publishing 8 billion f32 weights as bf16
// moves 48 GB, 10 ms at 4.8 TB/s.
#include "lib/pack.h"
#include "lib/storage.h"

// `padded` elements of y have bytes: a 16-bit tensor of odd length ends in a zero.
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
