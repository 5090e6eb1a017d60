// What the kernels of rms_norm, layer_norm and their gradients share: the statistics of a row, and weights and biases
// in any format.
#pragma once
#include "row.h"
#include "storage.h"

using NormTeam = RowTeam<256>;

// Calls f with the type of a weight's or bias's format, numbered as in backends/cuda/kernels/norm.ts. One branch
// ahead of all loads: inside the loops it would keep these from being in flight together.
template <typename F>
DEVICE void with_format(uint32_t format, F f) {
  if (format == 0) f(F32{});
  if (format == 1) f(F16{});
  if (format == 2) f(BF16{});
}

template <uint32_t N, typename Format>
DEVICE Pack<N> load_vector(const void* vector, uint32_t i) {
  if constexpr (N == 1) {
    return {{Format::load(vector, 0, i)}};
  } else {
    const float4 v = Format::load4(vector, 0, 4 * static_cast<uint64_t>(i));
    return {{v.x, v.y, v.z, v.w}};
  }
}

// What is subtracted from a row (0 where the norm is not centered), and what it is then multiplied by.
struct Statistics {
  float mean, inverse;
  DEVICE float normalized(float x) const { return (x - mean) * inverse; }
};

// The squares are taken in a second pass: their sum minus the squared mean would lose every digit where the mean is
// large.
template <bool CENTERED, uint32_t N>
DEVICE Statistics row_statistics(NormTeam team, const float* x, uint32_t width, float eps) {
  const float count = static_cast<float>(width);
  const auto values = [=](uint32_t i) { return load_pack<N>(x, i); };
  const float mean = CENTERED ? row_sum<N>(team, width / N, values) / count : 0.0f;
  const float squares = row_sum<N>(team, width / N, [=](uint32_t i) {
    return map<N>([=](float v) { return (v - mean) * (v - mean); }, values(i));
  });
  return {mean, rsqrtf(squares / count + eps)};
}
