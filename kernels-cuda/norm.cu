// rms_norm and layer_norm. A row is a team's (lib/row.h); after the first pass over it the others read the cache.
//
// Bytes per element: 8, or 6 with y in 16 bits; weight and bias stay in the cache. Flops: 4 to 8. Memory bandwidth is the limit: 8,192 rows
// of 4,096 are 268 MB, 56 us at 4.8 TB/s.
#include "lib/norm.h"

template <bool CENTERED, uint32_t N, typename Weight, typename Bias, typename Output>
DEVICE void norm_row(NormTeam team, const float* x, const void* weight, const void* bias, void* y, uint32_t width,
                     float eps) {
  const Statistics row = row_statistics<CENTERED, N>(team, x, width, eps);
  team.map<Output>(y, width / N, [=](uint32_t i) {
    const Pack<N> b = CENTERED ? load_stored<N, Bias>(bias, i) : Pack<N>{};
    return map<N>([=](float v, float w, float b) { return row.normalized(v) * w + b; }, load_pack<N>(x, i),
                  load_stored<N, Weight>(weight, i), b);
  });
}

template <bool CENTERED, typename Weight, typename Bias, typename Output>
DEVICE void norm(const float* x, const void* weight, const void* bias, void* y, uint32_t rows, uint32_t width,
                 uint32_t threads, float eps) {
  const NormTeam team = {threads};
  if (team.row() >= rows) return;
  const uint64_t first = team.row() * width;
  x += first;
  y = static_cast<uint8_t*>(y) + Output::BYTES * first;
  if (width % 4 == 0)
    norm_row<CENTERED, 4, Weight, Bias, Output>(team, x, weight, bias, y, width, eps);
  else
    norm_row<CENTERED, 1, Weight, Bias, Output>(team, x, weight, bias, y, width, eps);
}

KERNEL(rms_norm, 256, const float* x, const void* weight, void* y, uint32_t weight_format, uint32_t output_format,
       uint32_t rows, uint32_t width, uint32_t team, float eps) {
  with_format(weight_format, [=](auto w) {
    with_format(output_format, [=](auto o) {
      norm<false, decltype(w), F32, decltype(o)>(x, weight, nullptr, y, rows, width, team, eps);
    });
  });
}

KERNEL(layer_norm, 256, const float* x, const void* weight, const void* bias, void* y, uint32_t weight_format,
       uint32_t bias_format, uint32_t output_format, uint32_t rows, uint32_t width, uint32_t team, float eps) {
  with_format(weight_format, [=](auto w) {
    with_format(bias_format, [=](auto b) {
      with_format(output_format, [=](auto o) {
        norm<true, decltype(w), decltype(b), decltype(o)>(x, weight, bias, y, rows, width, team, eps);
      });
    });
  });
}
