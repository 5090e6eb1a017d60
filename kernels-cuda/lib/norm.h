// What the kernels of rms_norm, layer_norm and their gradients share: the statistics of a row.
#pragma once
#include "row.h"

using NormTeam = RowTeam<256>;

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
