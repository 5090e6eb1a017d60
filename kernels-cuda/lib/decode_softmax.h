// The online softmax of decoding (kernels-cuda/attention_paged.cu), without a score that two lanes compute.
#pragma once
#include "paged.h"

constexpr uint32_t TOKENS = 4;  // tokens that a group of lanes takes at a time

// The softmax of a group of LANES lanes. Pairs of head and token, in that order, are dealt out to its lanes: a lane has
// OWN pairs, or LANES / 16 lanes have the same one.
template <uint32_t LANES, uint32_t HEADS>
struct Softmax {
  static constexpr uint32_t PAIRS = HEADS * TOKENS;
  static constexpr uint32_t OWN = LANES < PAIRS ? PAIRS / LANES : 1, SAME = LANES > PAIRS ? LANES / PAIRS : 1;
  float top = MASKED, total = 0;  // of this lane's head; the total of its own tokens only

  DEVICE static uint32_t first_pair() { return threadIdx.x % LANES * PAIRS / LANES; }
  // The lane of the warp that has a pair.
  DEVICE static uint32_t lane_of(uint32_t pair) { return threadIdx.x % 32 / LANES * LANES + pair * LANES / PAIRS; }

  // Sums over the group's lanes, LANE_STEP and lower bits of their numbers to go; afterwards a lane's own pairs come
  // first. Each round halves the COUNT pairs of a lane.
  template <uint32_t COUNT = PAIRS, uint32_t LANE_STEP = LANES / 2>
  DEVICE static void reduce(float (&score)[PAIRS]) {
    if constexpr (COUNT == 1) {
      score[0] += __shfl_xor_sync(FULL_WARP, score[0], LANE_STEP);
    } else {
      const bool upper = (threadIdx.x & LANE_STEP) != 0;
#pragma unroll
      for (uint32_t i = 0; i < COUNT / 2; i++) {
        const float low = score[i], high = score[i + COUNT / 2];
        score[i] = (upper ? high : low) + __shfl_xor_sync(FULL_WARP, upper ? low : high, LANE_STEP);
      }
    }
    if constexpr (LANE_STEP > 1) reduce<COUNT == 1 ? 1 : COUNT / 2, LANE_STEP / 2>(score);
  }

  // Makes weights of a lane's own dot products, those of tokens before `end` from `first` on; `keep` is what earlier
  // weights are worth after them.
  DEVICE void weigh(float (&score)[PAIRS], uint32_t token, uint32_t first, uint32_t end, const Scores& scores,
                    float& keep) {
    bool visible[OWN];
    float highest = top;
#pragma unroll
    for (uint32_t i = 0; i < OWN; i++) {
      const uint32_t own = token + (first_pair() + i) % TOKENS;
      visible[i] = own >= first && own < end;
      score[i] = visible[i] ? scores.score(score[i]) : MASKED;
      highest = fmaxf(highest, score[i]);
    }
#pragma unroll
    for (uint32_t step = LANES / HEADS / 2; step >= SAME; step /= 2)
      highest = fmaxf(highest, __shfl_xor_sync(FULL_WARP, highest, step));
    keep = exp2f(top - highest);
    top = highest;
    total *= keep;
#pragma unroll
    for (uint32_t i = 0; i < OWN; i++) {
      score[i] = visible[i] ? exp2f(score[i] - highest) : 0.0f;
      total += score[i];
    }
  }

  DEVICE float whole_total() const {
    float sum = total;
#pragma unroll
    for (uint32_t step = LANES / HEADS / 2; step >= SAME; step /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, step);
    return sum;
  }
};
