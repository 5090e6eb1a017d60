// reduce: y[g] = scale * the sum or maximum of x over span g, a warp per span. A span is a row, or a piece of one whose
// results a second launch folds. reduce_first: the same over the first dim, one chain per element of y.
// broadcast: y = factor * x, each element of x repeated for a span of y.
//
// Bytes: 4 per element of the larger side; flops: 1. Memory bandwidth is the limit: spans of at most 4,096 elements
// give a whole tensor enough warps, four elements a lane keep 512 bytes of a warp in flight at a time.
#include "lib/pack.h"
#include "lib/reduce.h"
#include "lib/strided.h"

struct Sum {
  static constexpr float START = 0.0f;
  DEVICE static float fold(float a, float b) { return a + b; }
  DEVICE static float lanes(float x) { return warp_sum(x); }
};

struct Max {
  static constexpr float START = -INFINITY;
  DEVICE static float fold(float a, float b) { return fmaxf(a, b); }
  DEVICE static float lanes(float x) { return warp_max(x); }
};

// Rows of `width` packs, each cut into `pieces` of `piece` packs, the last of which may be shorter.
template <typename Fold, uint32_t N>
DEVICE void reduce(const float* x, float* y, uint64_t width, uint64_t piece, uint64_t pieces, uint64_t spans,
                   float scale) {
  const uint64_t span = thread_index() / 32;
  if (span >= spans) return;
  const uint64_t first = span % pieces * piece, last = min(first + piece, width), row = span / pieces * width;
  Pack<N> folded;
  for (uint32_t j = 0; j < N; j++) folded.v[j] = Fold::START;
#pragma unroll 4
  for (uint64_t i = first + threadIdx.x % 32; i < last; i += 32)
    folded = map<N>(Fold::fold, folded, load_pack<N>(x, row + i));
  float all = folded.v[0];
  for (uint32_t j = 1; j < N; j++) all = Fold::fold(all, folded.v[j]);
  all = Fold::lanes(all);
  if (threadIdx.x % 32 == 0) y[span] = all * scale;
}

KERNEL(reduce_sum_1, 256, const float* x, float* y, uint64_t width, uint64_t piece, uint64_t pieces, uint64_t spans,
       float scale) {
  reduce<Sum, 1>(x, y, width, piece, pieces, spans, scale);
}

KERNEL(reduce_sum_4, 256, const float* x, float* y, uint64_t width, uint64_t piece, uint64_t pieces, uint64_t spans,
       float scale) {
  reduce<Sum, 4>(x, y, width, piece, pieces, spans, scale);
}

KERNEL(reduce_max_1, 256, const float* x, float* y, uint64_t width, uint64_t piece, uint64_t pieces, uint64_t spans,
       float scale) {
  reduce<Max, 1>(x, y, width, piece, pieces, spans, scale);
}

KERNEL(reduce_max_4, 256, const float* x, float* y, uint64_t width, uint64_t piece, uint64_t pieces, uint64_t spans,
       float scale) {
  reduce<Max, 4>(x, y, width, piece, pieces, spans, scale);
}

// Rows of `width` packs, a pack of columns a thread: (x[0] + x[1]) + x[2] and so on, an order that the op promises.
// Four rows a thread are in flight: 72 copies of 350,000 elements are 100 MB, 21 us at 4.8 TB/s, and 87,500 threads.
template <typename Fold, uint32_t N>
DEVICE void reduce_first(const float* x, float* y, uint64_t rows, uint64_t width, float scale) {
  const uint64_t column = thread_index();
  if (column >= width) return;
  Pack<N> folded = load_pack<N>(x, column);
  strided<uint64_t>(column + width, rows * width, width,
                    [&](uint64_t i) { folded = map<N>(Fold::fold, folded, load_pack<N>(x, i)); });
  store_pack(y, column, map<N>([=](float v) { return v * scale; }, folded));
}

KERNEL(reduce_first_sum_1, 256, const float* x, float* y, uint64_t rows, uint64_t width, float scale) {
  reduce_first<Sum, 1>(x, y, rows, width, scale);
}

KERNEL(reduce_first_sum_4, 256, const float* x, float* y, uint64_t rows, uint64_t width, float scale) {
  reduce_first<Sum, 4>(x, y, rows, width, scale);
}

KERNEL(reduce_first_max_1, 256, const float* x, float* y, uint64_t rows, uint64_t width, float scale) {
  reduce_first<Max, 1>(x, y, rows, width, scale);
}

KERNEL(reduce_first_max_4, 256, const float* x, float* y, uint64_t rows, uint64_t width, float scale) {
  reduce_first<Max, 4>(x, y, rows, width, scale);
}

KERNEL(broadcast, 256, const float* x, float* y, uint64_t span, float factor, uint64_t count) {
  const uint64_t first = 4 * thread_index();
  if (first >= count) return;
  uint64_t from = first / span, left = span - first % span;
  Pack<4> repeated;
  for (uint32_t j = 0; j < 4; j++) {
    repeated.v[j] = first + j < count ? x[from] * factor : 0.0f;
    if (--left == 0) {
      from++;
      left = span;
    }
  }
  if (first + 4 <= count) {
    store_pack(y, first / 4, repeated);
  } else {
    for (uint32_t j = 0; j < 3; j++)
      if (first + j < count) y[first + j] = repeated.v[j];
  }
}
