// rms_norm, layer_norm, their gradients with respect to x, and the row statistics that the gradients of their weights
// need. A row is a team's (lib/row.h); after the first pass over it the others read the cache.
//
// Bytes per element: 8 forward, 12 backward, 4 for the statistics; weight and bias stay in the cache. Flops: 4 to 8
// forward, 12 to 18 backward. Memory bandwidth is the limit: 8,192 rows of 4,096 are 268 MB forward, 56 us at
// 4.8 TB/s.
#include "lib/row.h"
#include "lib/storage.h"

using Team = RowTeam<256>;

// A weight or bias of C elements in one of three formats, numbered as in backends/cuda/kernels/norm.ts. The format is
// the same for the whole launch, so the branch costs next to nothing beside a load.
struct Vector {
  const void* data;
  uint32_t format;

  template <uint32_t N>
  DEVICE Pack<N> load(uint32_t i) const {
    return format == 0 ? load_as<F32, N>(i) : format == 1 ? load_as<F16, N>(i) : load_as<BF16, N>(i);
  }

 private:
  template <typename Format, uint32_t N>
  DEVICE Pack<N> load_as(uint32_t i) const {
    if constexpr (N == 1) {
      return {{Format::load(data, 0, i)}};
    } else {
      const float4 v = Format::load4(data, 0, 4 * static_cast<uint64_t>(i));
      return {{v.x, v.y, v.z, v.w}};
    }
  }
};

// What is subtracted from a row (0 where the norm is not centered), and what it is then multiplied by.
struct Statistics {
  float mean, inverse;
  DEVICE float normalized(float x) const { return (x - mean) * inverse; }
};

// The squares are taken in a second pass: their sum minus the squared mean would lose every digit where the mean is
// large.
template <bool CENTERED, uint32_t N>
DEVICE Statistics row_statistics(Team team, const float* x, uint32_t width, float eps) {
  const float count = static_cast<float>(width);
  const float mean = CENTERED ? row_sum<N>(team, width, [](float v) { return v; }, x) / count : 0.0f;
  const float squares = row_sum<N>(team, width, [=](float v) { return (v - mean) * (v - mean); }, x);
  return {mean, rsqrtf(squares / count + eps)};
}

template <bool CENTERED, uint32_t N>
DEVICE void norm_row(Team team, const float* x, Vector weight, Vector bias, float* y, uint32_t width, float eps) {
  const Statistics row = row_statistics<CENTERED, N>(team, x, width, eps);
  for (uint32_t i = team.lane(); i < width / N; i += team.size) {
    const Pack<N> v = load_pack<N>(x, i), w = weight.load<N>(i);
    const Pack<N> b = CENTERED ? bias.load<N>(i) : Pack<N>{};
    store_pack(y, i, map<N>([=](float v, float w, float b) { return row.normalized(v) * w + b; }, v, w, b));
  }
}

template <bool CENTERED>
DEVICE void norm(const float* x, Vector weight, Vector bias, float* y, uint32_t rows, uint32_t width,
                 uint32_t threads, float eps) {
  const Team team = {threads};
  if (team.row() >= rows) return;
  x += team.row() * width;
  y += team.row() * width;
  if (width % 4 == 0)
    norm_row<CENTERED, 4>(team, x, weight, bias, y, width, eps);
  else
    norm_row<CENTERED, 1>(team, x, weight, bias, y, width, eps);
}

// With g = dy * weight, h the normalised x and means over the row: dx = inverse * (g - mean(g) - h * mean(g h)), the
// term mean(g) only where the norm subtracts a mean.
template <bool CENTERED, uint32_t N>
DEVICE void backward_row(Team team, const float* dy, const float* x, Vector weight, float* dx, uint32_t width,
                         float eps) {
  const Statistics row = row_statistics<CENTERED, N>(team, x, width, eps);
  float g_sum = 0, gh_sum = 0;
  for (uint32_t i = team.lane(); i < width / N; i += team.size) {
    const Pack<N> d = load_pack<N>(dy, i), v = load_pack<N>(x, i), w = weight.load<N>(i);
    for (uint32_t j = 0; j < N; j++) {
      const float g = d.v[j] * w.v[j];
      g_sum += g;
      gh_sum += g * row.normalized(v.v[j]);
    }
  }
  const float count = static_cast<float>(width);
  const float g_mean = CENTERED ? team.sum(g_sum) / count : 0.0f;
  const float gh_mean = team.sum(gh_sum) / count;
  for (uint32_t i = team.lane(); i < width / N; i += team.size) {
    const auto gradient = [=](float d, float v, float w) {
      return row.inverse * (d * w - g_mean - row.normalized(v) * gh_mean);
    };
    store_pack(dx, i, map<N>(gradient, load_pack<N>(dy, i), load_pack<N>(x, i), weight.load<N>(i)));
  }
}

template <bool CENTERED>
DEVICE void backward(const float* dy, const float* x, Vector weight, float* dx, uint32_t rows, uint32_t width,
                     uint32_t threads, float eps) {
  const Team team = {threads};
  if (team.row() >= rows) return;
  const uint64_t first = team.row() * width;
  if (width % 4 == 0)
    backward_row<CENTERED, 4>(team, dy + first, x + first, weight, dx + first, width, eps);
  else
    backward_row<CENTERED, 1>(team, dy + first, x + first, weight, dx + first, width, eps);
}

template <bool CENTERED>
DEVICE void statistics_of_rows(const float* x, float* statistics, uint32_t rows, uint32_t width, uint32_t threads,
                               float eps) {
  const Team team = {threads};
  if (team.row() >= rows) return;
  x += team.row() * width;
  const Statistics row = width % 4 == 0 ? row_statistics<CENTERED, 4>(team, x, width, eps)
                                        : row_statistics<CENTERED, 1>(team, x, width, eps);
  if (team.lane() == 0) reinterpret_cast<float2*>(statistics)[team.row()] = make_float2(row.mean, row.inverse);
}

KERNEL(rms_norm, 256, const float* x, const void* weight, float* y, uint32_t weight_format, uint32_t rows,
       uint32_t width, uint32_t team, float eps) {
  norm<false>(x, {weight, weight_format}, {}, y, rows, width, team, eps);
}

KERNEL(layer_norm, 256, const float* x, const void* weight, const void* bias, float* y, uint32_t weight_format,
       uint32_t bias_format, uint32_t rows, uint32_t width, uint32_t team, float eps) {
  norm<true>(x, {weight, weight_format}, {bias, bias_format}, y, rows, width, team, eps);
}

KERNEL(rms_norm_backward_input, 256, const float* dy, const float* x, const void* weight, float* dx,
       uint32_t weight_format, uint32_t rows, uint32_t width, uint32_t team, float eps) {
  backward<false>(dy, x, {weight, weight_format}, dx, rows, width, team, eps);
}

KERNEL(layer_norm_backward_input, 256, const float* dy, const float* x, const void* weight, float* dx,
       uint32_t weight_format, uint32_t rows, uint32_t width, uint32_t team, float eps) {
  backward<true>(dy, x, {weight, weight_format}, dx, rows, width, team, eps);
}

// statistics [rows][2]: mean and inverse of each row.
KERNEL(rms_norm_statistics, 256, const float* x, float* statistics, uint32_t rows, uint32_t width, uint32_t team,
       float eps) {
  statistics_of_rows<false>(x, statistics, rows, width, team, eps);
}

KERNEL(layer_norm_statistics, 256, const float* x, float* statistics, uint32_t rows, uint32_t width, uint32_t team,
       float eps) {
  statistics_of_rows<true>(x, statistics, rows, width, team, eps);
}
