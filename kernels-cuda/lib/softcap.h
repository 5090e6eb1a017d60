// The score cap of attention: softcap * tanh(score / softcap), none where softcap is 0. tanh by exp, as on every
// backend; past |x| = 10 it is 1 in f32.
#pragma once
#include "kernel.h"

DEVICE float softcap_value(float score, float softcap) {
  if (softcap == 0.0f) return score;
  const float x = fminf(fmaxf(score / softcap, -10.0f), 10.0f);
  return softcap * (1.0f - 2.0f / (expf(2.0f * x) + 1.0f));
}

// Derivative of the cap, from the capped score: 1 - tanh^2.
DEVICE float softcap_slope(float capped, float softcap) {
  if (softcap == 0.0f) return 1.0f;
  const float t = capped / softcap;
  return 1.0f - t * t;
}
