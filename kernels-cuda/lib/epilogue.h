// What follows the sum of a matmul, in one home: y = activation(sum + bias) + residual.
#pragma once
#include "activation.h"
#include "storage.h"

// Formats of bias and y, and activations, numbered as in backends/cuda/kernels/matmul.ts. They are the same for the
// whole launch, so their branches cost little beside the sum.
enum : uint32_t { FORMAT_F32, FORMAT_F16, FORMAT_BF16 };
enum : uint32_t { ACTIVATION_NONE, ACTIVATION_GELU_TANH, ACTIVATION_SILU };

// Without bias, activation and residual the sum is stored as it is. y of 16 bits has an even number of columns.
// residual may be y, which is then added to: a thread reads an element before it stores it.
struct Epilogue {
  void* y;
  uint32_t columns;
  const void* bias;
  uint32_t bias_format;
  uint32_t activation;
  const float* residual;
  uint32_t output_format;

  DEVICE float value(uint64_t at, uint32_t column, float sum) const {
    if (bias != nullptr)
      sum += bias_format == FORMAT_F32   ? F32::load(bias, columns, column)
             : bias_format == FORMAT_F16 ? F16::load(bias, columns, column)
                                         : BF16::load(bias, columns, column);
    if (activation == ACTIVATION_GELU_TANH) sum = gelu_tanh_value(sum);
    if (activation == ACTIVATION_SILU) sum = silu_value(sum);
    return residual != nullptr ? sum + residual[at] : sum;
  }

  DEVICE void store(uint64_t row, uint32_t column, float sum) const {
    const uint64_t at = row * columns + column;
    const float result = value(at, column, sum);
    if (output_format == FORMAT_F32)
      F32::store(y, at, result);
    else if (output_format == FORMAT_F16)
      F16::store(y, at, result);
    else
      BF16::store(y, at, result);
  }

  // Two neighbours of a row, the first in an even column; where columns are odd, the second may be past the end.
  DEVICE void store_pair(uint64_t row, uint32_t column, float2 sum) const {
    if (columns % 2 != 0) {
      store(row, column, sum.x);
      if (column + 1 < columns) store(row, column + 1, sum.y);
      return;
    }
    const uint64_t at = row * columns + column;
    const float first = value(at, column, sum.x), second = value(at + 1, column + 1, sum.y);
    if (output_format == FORMAT_F32)
      static_cast<float2*>(y)[at / 2] = make_float2(first, second);
    else if (output_format == FORMAT_F16)
      static_cast<uint32_t*>(y)[at / 2] = f32_to_f16(first) | f32_to_f16(second) << 16;
    else
      static_cast<uint32_t*>(y)[at / 2] = f32_to_bf16(first) | f32_to_bf16(second) << 16;
  }
};

// y = sum, or y += sum.
DEVICE Epilogue plain_epilogue(void* y, uint32_t columns, uint32_t output_format, bool accumulate) {
  return {y, columns, nullptr, FORMAT_F32, ACTIVATION_NONE, accumulate ? static_cast<const float*>(y) : nullptr,
          output_format};
}
