// adamw and the norm of gradients over flat ranges of parameters.
//
// Bytes per element: 28 (adamw: 4 reads, 3 writes), 4 (square_sums). Flops: 15 with two divisions and a root, 2. Memory
// bandwidth is the limit: a step of 8e9 parameters moves 224 GB, 47 ms at 4.8 TB/s. A launch of its own to clip gradients
// would move 64 GB more.
#include "lib/pack.h"
#include "lib/strided.h"

struct AdamW {
  float rate, beta1, beta2, eps, decay, correction1, correction2, factor;

  DEVICE void update(float& param, float& moment1, float& moment2, float unclipped) const {
    const float gradient = __fmul_rn(unclipped, factor);
    moment1 = beta1 * moment1 + (1.0f - beta1) * gradient;
    moment2 = beta2 * moment2 + (1.0f - beta2) * gradient * gradient;
    const float step = rate * (moment1 / correction1) / (sqrtf(moment2 / correction2) + eps);
    param = param - rate * decay * param - step;
  }
};

// min(1, limit / (norm + 1e-6)); 1 where there is no norm or no limit.
DEVICE float clip_factor(const float* norm, const float* limit) {
  if (!norm || !(limit[0] > 0.0f)) return 1.0f;
  const float factor = limit[0] / (norm[0] + 1e-6f);
  return factor < 1.0f ? factor : 1.0f;
}

// hyper [8], or [2][8] of which elements from `boundary` on take the second row: see src/ops/adamw.ts. Four elements a
// thread, all on one side of the boundary; the last thread takes what is left.
KERNEL(adamw, 256, float* param, float* moment1, float* moment2, const float* gradient, const float* hyper,
       OPTIONAL const float* norm, OPTIONAL const float* limit, uint64_t count, uint64_t boundary) {
  const uint64_t i = thread_index();
  const float* h = 4 * i < boundary ? hyper : hyper + 8;
  const AdamW step = {h[0], h[1], h[2], h[3], h[4], h[5], h[6], clip_factor(norm, limit)};
  if (4 * i + 4 <= count) {
    Pack<4> p = load_pack<4>(param, i), m = load_pack<4>(moment1, i), v = load_pack<4>(moment2, i);
    const Pack<4> g = load_pack<4>(gradient, i);
    for (uint32_t j = 0; j < 4; j++) step.update(p.v[j], m.v[j], v.v[j], g.v[j]);
    store_pack(param, i, p);
    store_pack(moment1, i, m);
    store_pack(moment2, i, v);
  } else {
    for (uint64_t e = 4 * i; e < count; e++) step.update(param[e], moment1[e], moment2[e], gradient[e]);
  }
}

// The sum over 256 lanes in the order of kernels-wgsl/lib/reduce_tree.wgsl, 256 to 16 to 1; the result is thread 0's.
// This order is part of what square_sums and norm_of_sums promise, so that its bits are the same on every device.
DEVICE float tree_sum(float x) {
  SHARED(sums, float[256]);
  const uint32_t lane = threadIdx.x;
  sums[lane] = x;
  __syncthreads();
  if (lane < 16)
    for (uint32_t other = lane + 16; other < 256; other += 16) x = __fadd_rn(x, sums[other]);
  __syncthreads();
  if (lane < 16) sums[lane] = x;
  __syncthreads();
  if (lane == 0)
    for (uint32_t other = 1; other < 16; other++) x = __fadd_rn(x, sums[other]);
  return x;
}

// sums[b] = sum of x^2 over tile b: four sums a lane, 16 chained additions each for a tile of 16,384. Products and sums
// are rounded by themselves: a fused multiply-add would give other bits. The order depends on the tile's length alone.
KERNEL(square_sums, 256, const float* x, const uint32_t* tiles, float* sums, uint64_t count) {
  const uint64_t start = tiles[2 * blockIdx.x], left = start < count ? count - start : 0;
  const uint32_t own = static_cast<uint32_t>(tiles[2 * blockIdx.x + 1] < left ? tiles[2 * blockIdx.x + 1] : left);
  auto plus_square = [](float s, float v) { return __fadd_rn(s, __fmul_rn(v, v)); };
  Pack<4> sum = {};
  strided<uint32_t>(threadIdx.x, own / 4, 256,
                    [&](uint32_t i) { sum = map<4>(plus_square, sum, load_pack<4>(x, start / 4 + i)); });
  // The last pack may be a part of one.
  if (threadIdx.x == own / 4 % 256)
    for (uint32_t j = 0; j < own % 4; j++) sum.v[j] = plus_square(sum.v[j], x[start + own / 4 * 4 + j]);
  const float total = tree_sum(__fadd_rn(__fadd_rn(sum.v[0], sum.v[1]), __fadd_rn(sum.v[2], sum.v[3])));
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// One block. 8e9 parameters are 488,281 tiles: 2 MB, 7.6 KB a thread; some 100 us beside 6.7 ms.
KERNEL(norm_of_sums, 256, const float* sums, float* norm, uint32_t count) {
  float sum = 0;
  strided<uint32_t>(threadIdx.x, count, 256, [&](uint32_t i) { sum = __fadd_rn(sum, sums[i]); });
  const float total = tree_sum(sum);
  if (threadIdx.x == 0) norm[0] = sqrtf(total);
}
