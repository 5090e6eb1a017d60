// The online softmax of attention on sums of tensor cores (lib/wgmma.h): a thread has pairs of scores of two rows, four
// neighbours in a warp share the rows. Scores become weights in place, as powers of 2: a multiply-add and an ex2 each.
#pragma once
#include "kernel.h"

#ifdef __CUDACC__
// 2^x and 1 / x within 2 ulp; numbers below the smallest normal one are flushed.
DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
inline float fast_exp2(float x) {
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float fast_reciprocal(float x) { return 1.0f / x; }
#endif

// Below every score, so that its weight is 0 whatever the scale.
constexpr float UNSEEN = -__builtin_inff();
constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

// How a dot product becomes log2 of a weight: times `scale`; with a cap it is first replaced by tanh(slope dot).
struct ScoreScale {
  float scale, slope;
  DEVICE ScoreScale(float attention_scale, float softcap)
      : scale(LOG2_E * (softcap > 0.0f ? softcap : attention_scale)),
        slope(softcap > 0.0f ? attention_scale / softcap : 0.0f) {}

  DEVICE bool caps() const { return slope != 0.0f; }
  // tanh(x) = 1 - 2 / (exp(2x) + 1); where exp gives 0 or infinity it is -1 or 1.
  DEVICE float cap(float score) const {
    return 1.0f - 2.0f * fast_reciprocal(fast_exp2(2.0f * LOG2_E * slope * score) + 1.0f);
  }
  template <uint32_t SUMS>
  DEVICE void cap(float (&score)[SUMS]) const {
    if (!caps()) return;
#pragma unroll
    for (uint32_t i = 0; i < SUMS; i++) score[i] = cap(score[i]);
  }
};

// Over the four threads that share rows.
DEVICE float row_max4(float x) {
  x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
  return fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
}
DEVICE float row_sum4(float x) {
  x += __shfl_xor_sync(FULL_WARP, x, 1);
  return x + __shfl_xor_sync(FULL_WARP, x, 2);
}

// A thread's two rows: the largest score so far, times the scale, and the sum of this thread's weights.
struct OnlineSoftmax {
  float top[2] = {UNSEEN, UNSEEN}, total[2] = {};

  // Scores become weights, those of each row by its scale; `keep` is what everything summed before has to be multiplied
  // by.
  template <uint32_t SUMS>
  DEVICE void take(float (&score)[SUMS], float (&keep)[2], const float (&scale)[2]) {
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      float largest = UNSEEN;
#pragma unroll
      for (uint32_t i = 2 * r; i < SUMS; i += 4) largest = fmaxf(largest, fmaxf(score[i], score[i + 1]));
      const float new_top = fmaxf(top[r], scale[r] * row_max4(largest));
      // Where nothing was seen yet, any finite number gives weights of 0.
      const float base = new_top == UNSEEN ? 0.0f : new_top;
      keep[r] = fast_exp2(top[r] - base);
      top[r] = new_top;
      float sum = 0.0f;
#pragma unroll
      for (uint32_t i = 2 * r; i < SUMS; i += 4) {
        score[i] = fast_exp2(fmaf(score[i], scale[r], -base));
        score[i + 1] = fast_exp2(fmaf(score[i + 1], scale[r], -base));
        sum += score[i] + score[i + 1];
      }
      total[r] = fmaf(total[r], keep[r], sum);
    }
  }

  // When all is taken: what the weighted sums of row r are to be multiplied by, and its log-sum-exp.
  DEVICE float inverse(uint32_t r) const { return total[r] > 0.0f ? 1.0f / total[r] : 0.0f; }
  DEVICE float log_sum(uint32_t r, float masked) const {
    return total[r] > 0.0f ? (top[r] + log2f(total[r])) * LN_2 : masked;
  }
  DEVICE void join() {
    total[0] = row_sum4(total[0]);
    total[1] = row_sum4(total[1]);
  }
};
