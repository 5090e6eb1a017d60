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

  DEVICE float with_bias(uint32_t column, float sum) const {
    if (bias == nullptr) return sum;
    return sum + (bias_format == FORMAT_F32   ? F32::load(bias, columns, column)
                  : bias_format == FORMAT_F16 ? F16::load(bias, columns, column)
                                              : BF16::load(bias, columns, column));
  }

  // Without the residual.
  DEVICE float activated(uint32_t column, float sum) const {
    sum = with_bias(column, sum);
    if (activation == ACTIVATION_GELU_TANH) sum = gelu_tanh_value(sum);
    if (activation == ACTIVATION_SILU) sum = silu_value(sum);
    return sum;
  }

  DEVICE void store(uint64_t row, uint32_t column, float sum) const {
    const uint64_t at = row * columns + column;
    const float before = activated(column, sum), result = residual != nullptr ? before + residual[at] : before;
    if (output_format == FORMAT_F32)
      F32::store(y, at, result);
    else if (output_format == FORMAT_F16)
      F16::store(y, at, result);
    else
      BF16::store(y, at, result);
  }

  // activation(gate) * up, where bias has the gates' columns, then the ups'. y is f32.
  DEVICE void store_gated(uint64_t row, uint32_t column, float gate, float up) const {
    F32::store(y, row * columns + column, activated(column, gate) * with_bias(columns + column, up));
  }

  // What the residual adds to two neighbours, of which store_pair does not read it for itself.
  DEVICE float2 residual_pair(uint64_t row, uint32_t column) const {
    if (residual == nullptr || columns % 2 != 0) return make_float2(0, 0);
    return reinterpret_cast<const float2*>(residual)[(row * columns + column) / 2];
  }

  // Two neighbours of a row, the first in an even column; where columns are odd, the second may be past the end. Who
  // stores several rows loads what is added to all of them first: behind a store no load may be moved ahead of it.
  DEVICE void store_pair(uint64_t row, uint32_t column, float2 sum) const {
    store_pair(row, column, sum, residual_pair(row, column));
  }
  DEVICE void store_pair(uint64_t row, uint32_t column, float2 sum, float2 added) const {
    if (columns % 2 != 0) {
      store(row, column, sum.x);
      if (column + 1 < columns) store(row, column + 1, sum.y);
      return;
    }
    const uint64_t at = row * columns + column;
    float first = activated(column, sum.x), second = activated(column + 1, sum.y);
    if (residual != nullptr) {
      first += added.x;
      second += added.y;
    }
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
