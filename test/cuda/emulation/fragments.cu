// What single instructions do with numbers and lanes; fragment_primitives.ts says what each must give.
#include "lib/attention_boxes.h"
#include "lib/mma.h"
#include "lib/small_float.h"

// y = a b of 16 x 16 by 16 x 8 bf16, a row by row and b column by column, as lib/mma.h says who has which.
KERNEL(multiply_fragments, 32, const uint32_t* a, const uint32_t* b, float* y) {
  const uint32_t g = threadIdx.x / 4, t = threadIdx.x % 4;
  const uint32_t left[1][4] = {{a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + 4 + t], a[(g + 8) * 8 + 4 + t]}};
  const uint32_t right[1][2] = {{b[g * 8 + t], b[g * 8 + 4 + t]}};
  float sum[1][1][4] = {};
  mma_m16n8k16_bf16(sum, left, right);
  for (uint32_t i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[0][0][i];
}

// Numbers of 16 and 8 bits as f32; e4m3 from both halves of a pair.
KERNEL(decode_numbers, 256, float* f16, float* bf16, float* e4m3) {
  const uint32_t i = blockIdx.x * 256 + threadIdx.x;
  f16[i] = f16_to_f32(i);
  bf16[i] = bf16_to_f32(i);
  e4m3[i] = i < 0x7f ? e4m3_pair_to_f32(i).x : e4m3_pair_to_f32(i).y;
}

// Pairs of neighbours, the first in the lower half: f16, bf16, then e4m3 as words.
KERNEL(encode_numbers, 256, const float* x, uint32_t* f16, uint32_t* bf16, uint32_t* e4m3, uint32_t pairs) {
  const uint32_t i = blockIdx.x * 256 + threadIdx.x;
  if (i >= pairs) return;
  f16[i] = pack_pair<WgmmaFormat::f16>(x[2 * i], x[2 * i + 1]);
  bf16[i] = pack_pair<WgmmaFormat::bf16>(x[2 * i], x[2 * i + 1]);
  e4m3[i] = f32_to_e4m3_pair(x[2 * i], x[2 * i + 1]);
}
