// Activation functions and their derivatives on one f32, built on exp alone (src/ops/activation.ts says what each
// step may cost).
#pragma once
#include "kernel.h"

// s = 1 / (1 + e^-x) and 1 - s, both to full relative accuracy: 1 - s is formed without a subtraction.
struct SigmoidPair {
  float s, complement;
};

// The clamp keeps exp finite; past it one of the two is below 2^-125 and the other is 1.
DEVICE SigmoidPair sigmoid_pair(float x) {
  const float e = expf(fminf(fmaxf(-x, -87.0f), 87.0f));
  const float s = 1.0f / (1.0f + e);
  return {s, e * s};
}

DEVICE float silu_value(float x) { return x * sigmoid_pair(x).s; }

DEVICE float silu_derivative(float x) {
  const SigmoidPair p = sigmoid_pair(x);
  return p.s * (1.0f + x * p.complement);
}

// The tanh form of gelu is x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), since 1 + tanh(u) = 2 sigmoid(2 u):
// no cancellation for negative x, where 1 + tanh(u) would lose every digit.
constexpr float GELU_SCALE = 1.5957691216057308f;  // 2 sqrt(2/pi)
constexpr float GELU_CUBIC = 0.044715f;

// Keeps the cube finite: past |x| = 16 the sigmoid is 0 or 1 in f32.
DEVICE float gelu_argument(float x) { return fminf(fmaxf(x, -16.0f), 16.0f); }

DEVICE SigmoidPair gelu_gate(float c) { return sigmoid_pair(GELU_SCALE * c * (1.0f + GELU_CUBIC * c * c)); }

DEVICE float gelu_tanh_value(float x) { return x * gelu_gate(gelu_argument(x)).s; }

DEVICE float gelu_tanh_derivative(float x) {
  const float c = gelu_argument(x);
  const SigmoidPair p = gelu_gate(c);
  return p.s + p.s * (p.complement * c * GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * c * c));
}

// The same as types for kernel templates.
struct Silu {
  DEVICE static float value(float x) { return silu_value(x); }
  DEVICE static float derivative(float x) { return silu_derivative(x); }
};

struct GeluTanh {
  DEVICE static float value(float x) { return gelu_tanh_value(x); }
  DEVICE static float derivative(float x) { return gelu_tanh_derivative(x); }
};
