// What follows the sum of a matmul, in one home: y = activation(sum + bias) + residual.
#pragma once
#include "activation.h"
#include "storage.h"

// Formats of a bias and activations, numbered as in backends/cuda/kernels/matmul.ts. They are the same for the whole
// launch, so their branches cost little beside the sum.
enum : uint32_t { BIAS_F32, BIAS_F16, BIAS_BF16 };
enum : uint32_t { ACTIVATION_NONE, ACTIVATION_GELU_TANH, ACTIVATION_SILU };

// Without bias, activation and residual the sum is stored as it is.
struct Epilogue {
  float* y;
  uint32_t columns;
  const void* bias;
  uint32_t bias_format;
  uint32_t activation;
  const float* residual;

  DEVICE void store(uint64_t row, uint32_t column, float sum) const {
    const uint64_t at = row * columns + column;
    if (bias != nullptr)
      sum += bias_format == BIAS_F32   ? F32::load(bias, columns, column)
             : bias_format == BIAS_F16 ? F16::load(bias, columns, column)
                                       : BF16::load(bias, columns, column);
    if (activation == ACTIVATION_GELU_TANH) sum = gelu_tanh_value(sum);
    if (activation == ACTIVATION_SILU) sum = silu_value(sum);
    y[at] = residual != nullptr ? sum + residual[at] : sum;
  }
};
