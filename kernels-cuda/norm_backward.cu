// Gradients of rms_norm and layer_norm with respect to x, and the row statistics that the gradients of their weights
// need (columns.cu). A row is a team's (lib/row.h); after the first pass over it the others read the cache.
//
// Bytes per element: 12 (10 with dy in 16 bits), 4 of a residual, 2 of dx rounded, and 4 for the statistics alone; the
// weight stays in the cache. Flops: 12 to 18 and 2 to 4. Memory bandwidth is the limit: 8,192 rows of 4,096 are 403 MB,
// 84 us at 4.8 TB/s. Launches of their own would move 12 bytes more for the residual, 4 to round dx, 4 for the statistics.
#include "lib/norm.h"

// What is made of a row: dx, and dx in a format of 16 bits where that is wanted.
struct Results {
  float* dx;
  void* rounded;
  uint32_t rounded_format;

  DEVICE static Results of_row(float* dx, void* rounded, uint32_t rounded_format, uint64_t first) {
    return {dx + first, rounded ? static_cast<uint16_t*>(rounded) + first : nullptr, rounded_format};
  }

  template <uint32_t N>
  DEVICE void store(uint32_t i, const Pack<N>& d) const {
    store_pack(dx, i, d);
    if (!rounded) return;
    if (rounded_format == 1)
      store_stored<F16>(rounded, i, d);
    else
      store_stored<BF16>(rounded, i, d);
  }
};

DEVICE void store_statistics(NormTeam team, float* statistics, const Statistics& row) {
  if (team.lane() == 0) reinterpret_cast<float2*>(statistics)[team.row()] = make_float2(row.mean, row.inverse);
}

// With g = dy * weight, h the normalised x and means over the row: dx = inverse * (g - mean(g) - h * mean(g h)) +
// residual, the term mean(g) only where the norm subtracts a mean.
template <bool CENTERED, uint32_t N, typename Weight, typename Gradient>
DEVICE void backward_row(NormTeam team, const void* dy, const float* x, const void* weight, const float* residual,
                         const Results& results, float* statistics, uint32_t width, float eps) {
  const Statistics row = row_statistics<CENTERED, N>(team, x, width, eps);
  if (statistics) store_statistics(team, statistics, row);
  const auto g = [=](uint32_t i) {
    return map<N>([](float d, float w) { return d * w; }, load_stored<N, Gradient>(dy, i),
                  load_stored<N, Weight>(weight, i));
  };
  float g_sum = 0, gh_sum = 0;
  team.each(width / N, [&](uint32_t i) {
    const Pack<N> own = g(i);
    g_sum += sum_of<N>(own);
    gh_sum += sum_of<N>(map<N>([=](float g, float v) { return g * row.normalized(v); }, own, load_pack<N>(x, i)));
  });
  const float count = static_cast<float>(width);
  const float g_mean = CENTERED ? team.sum(g_sum) / count : 0.0f;
  const float gh_mean = team.sum(gh_sum) / count;
  team.map_to(
      width / N,
      [=](uint32_t i) {
        const Pack<N> own = map<N>(
            [=](float g, float v) { return row.inverse * (g - g_mean - row.normalized(v) * gh_mean); }, g(i),
            load_pack<N>(x, i));
        return residual ? map<N>([](float a, float b) { return a + b; }, own, load_pack<N>(residual, i)) : own;
      },
      [=](uint32_t i, const Pack<N>& d) { results.store(i, d); });
}

template <bool CENTERED, typename Weight, typename Gradient>
DEVICE void backward(const void* dy, const float* x, const void* weight, const float* residual, const Results& results,
                     float* statistics, uint32_t width, NormTeam team, float eps) {
  const uint64_t first = team.row() * width;
  dy = static_cast<const uint8_t*>(dy) + Gradient::BYTES * first;
  x += first;
  if (residual) residual += first;
  if (width % 4 == 0)
    backward_row<CENTERED, 4, Weight, Gradient>(team, dy, x, weight, residual, results, statistics, width, eps);
  else
    backward_row<CENTERED, 1, Weight, Gradient>(team, dy, x, weight, residual, results, statistics, width, eps);
}

template <bool CENTERED>
DEVICE void backward_of_rows(const void* dy, const float* x, const void* weight, const float* residual, float* dx,
                             void* dx_rounded, float* statistics, uint32_t weight_format, uint32_t dy_format,
                             uint32_t rounded_format, uint32_t rows, uint32_t width, uint32_t threads, float eps) {
  const NormTeam team = {threads};
  if (team.row() >= rows) return;
  const Results results = Results::of_row(dx, dx_rounded, rounded_format, team.row() * width);
  with_format(weight_format, [=](auto w) {
    with_format(dy_format, [=](auto d) {
      backward<CENTERED, decltype(w), decltype(d)>(dy, x, weight, residual, results, statistics, width, team, eps);
    });
  });
}

template <bool CENTERED>
DEVICE void statistics_of_rows(const float* x, float* statistics, uint32_t rows, uint32_t width, uint32_t threads,
                               float eps) {
  const NormTeam team = {threads};
  if (team.row() >= rows) return;
  x += team.row() * width;
  const Statistics row = width % 4 == 0 ? row_statistics<CENTERED, 4>(team, x, width, eps)
                                        : row_statistics<CENTERED, 1>(team, x, width, eps);
  store_statistics(team, statistics, row);
}

KERNEL(rms_norm_backward_input, 256, const void* dy, const float* x, const void* weight,
       OPTIONAL const float* residual, float* dx, OPTIONAL void* dx_rounded, OPTIONAL float* statistics,
       uint32_t weight_format, uint32_t dy_format, uint32_t rounded_format, uint32_t rows, uint32_t width,
       uint32_t team, float eps) {
  backward_of_rows<false>(dy, x, weight, residual, dx, dx_rounded, statistics, weight_format, dy_format,
                          rounded_format, rows, width, team, eps);
}

KERNEL(layer_norm_backward_input, 256, const void* dy, const float* x, const void* weight,
       OPTIONAL const float* residual, float* dx, OPTIONAL void* dx_rounded, OPTIONAL float* statistics,
       uint32_t weight_format, uint32_t dy_format, uint32_t rounded_format, uint32_t rows, uint32_t width,
       uint32_t team, float eps) {
  backward_of_rows<true>(dy, x, weight, residual, dx, dx_rounded, statistics, weight_format, dy_format,
                         rounded_format, rows, width, team, eps);
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
