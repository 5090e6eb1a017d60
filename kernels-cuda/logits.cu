// softmax, cross_entropy (whole, or a part of the vocabulary), their gradients, and argmax. A row is a team's
// (lib/row.h); rows of logits are long, so blocks are.
//
// Bytes per element: 12 (softmax: x twice, y), 20 (softmax_backward: dy and y twice, dx), 4 (cross_entropy, argmax),
// 8 (cross_entropy_backward); half of that for logits in 16 bits. At 4.8 TB/s a multiprocessor is given five f32 a cycle
// and makes sixteen exp, so with one or two exp per element memory bandwidth is the limit: cross_entropy of 8,192 rows of
// 128,256 is 4.2 GB, 0.9 ms. In 16 bits the exp (five for four elements) are 0.8 of what can be made in that time.
#include <cfloat>

#include "lib/row.h"

using Team = RowTeam<512>;

// The highest of some values, and the sum of exp(value - highest) over them.
struct SoftmaxSum {
  float top, sum;
};

// Of a row, in one pass: what was summed so far is rescaled when a higher value comes.
template <uint32_t N, typename Format = F32>
DEVICE SoftmaxSum softmax_sum(Team team, const void* x, uint32_t width) {
  SoftmaxSum own = {-FLT_MAX, 0};
  team.each(width / N, [&](uint32_t i) {
    const Pack<N> v = load_stored<N, Format>(x, i);
    float top = own.top;
    for (uint32_t j = 0; j < N; j++) top = fmaxf(top, v.v[j]);
    own.sum = own.sum * expf(own.top - top) + sum_of<N>(map<N>([=](float v) { return expf(v - top); }, v));
    own.top = top;
  });
  const float top = team.max(own.top);
  return {top, team.sum(own.sum * expf(own.top - top))};
}

// log sum exp of a row.
template <typename Format>
DEVICE float row_lse(Team team, const void* x, uint32_t width) {
  const SoftmaxSum row =
      width % 4 == 0 ? softmax_sum<4, Format>(team, x, width) : softmax_sum<1, Format>(team, x, width);
  return row.top + logf(row.sum);
}

template <uint32_t N>
DEVICE void softmax_row(Team team, const float* x, float* y, uint32_t width) {
  const SoftmaxSum row = softmax_sum<N>(team, x, width);
  const float inverse = 1.0f / row.sum;
  team.map(y, width / N, [=](uint32_t i) {
    return map<N>([=](float v) { return expf(v - row.top) * inverse; }, load_pack<N>(x, i));
  });
}

template <uint32_t N>
DEVICE void softmax_backward_row(Team team, const float* dy, const float* y, float* dx, uint32_t width) {
  const float total = row_sum<N>(team, width / N, [=](uint32_t i) {
    return map<N>([](float d, float p) { return d * p; }, load_pack<N>(dy, i), load_pack<N>(y, i));
  });
  team.map(dx, width / N, [=](uint32_t i) {
    return map<N>([=](float d, float p) { return p * (d - total); }, load_pack<N>(dy, i), load_pack<N>(y, i));
  });
}

template <uint32_t N>
DEVICE uint32_t argmax_row(Team team, const float* x, uint32_t width) {
  ValueAt best = {-INFINITY, 0xffffffffu};
  team.each(width / N, [&](uint32_t i) {
    const Pack<N> v = load_pack<N>(x, i);
    for (uint32_t j = 0; j < N; j++) best = larger(best, {v.v[j], i * N + j});
  });
  return team.argmax(best).index;
}

KERNEL(softmax, 512, const float* x, float* y, uint32_t rows, uint32_t width, uint32_t team) {
  const Team own = {team};
  if (own.row() >= rows) return;
  x += own.row() * width;
  y += own.row() * width;
  if (width % 4 == 0)
    softmax_row<4>(own, x, y, width);
  else
    softmax_row<1>(own, x, y, width);
}

KERNEL(softmax_backward, 512, const float* dy, const float* y, float* dx, uint32_t rows, uint32_t width,
       uint32_t team) {
  const Team own = {team};
  if (own.row() >= rows) return;
  const uint64_t first = own.row() * width;
  if (width % 4 == 0)
    softmax_backward_row<4>(own, dy + first, y + first, dx + first, width);
  else
    softmax_backward_row<1>(own, dy + first, y + first, dx + first, width);
}

KERNEL(cross_entropy, 512, const void* logits, const uint32_t* targets, const float* weights, float* loss,
       float* lse, uint32_t logits_format, uint32_t rows, uint32_t width, uint32_t team) {
  const Team own = {team};
  const uint64_t t = own.row();
  if (t >= rows) return;
  with_format(logits_format, [=](auto f) {
    using Format = decltype(f);
    const void* row = static_cast<const uint8_t*>(logits) + Format::BYTES * t * width;
    const float value = row_lse<Format>(own, row, width);
    if (own.lane() > 0) return;
    // Rows of weight 0 may carry any target; the clamp keeps their load inside the row.
    const float logit = Format::load(row, 0, min(targets[t], width - 1));
    lse[t] = value;
    loss[t] = weights[t] * (value - logit);
  });
}

// parts [2][rows]: the row's lse, and the target's logit where the target, counted from `first`, is a column of this part.
KERNEL(cross_entropy_shard, 512, const void* logits, const uint32_t* targets, float* parts, uint32_t logits_format,
       uint32_t first, uint32_t rows, uint32_t width, uint32_t team) {
  const Team own = {team};
  const uint64_t t = own.row();
  if (t >= rows) return;
  with_format(logits_format, [=](auto f) {
    using Format = decltype(f);
    const void* row = static_cast<const uint8_t*>(logits) + Format::BYTES * t * width;
    const float value = row_lse<Format>(own, row, width);
    if (own.lane() > 0) return;
    parts[t] = value;
    const uint32_t column = targets[t] - first;
    parts[rows + t] = column < width ? Format::load(row, 0, column) : 0.0f;
  });
}

// parts [count][2][rows], one row a thread, in the order of the parts. Bytes: 8 per part and row from memory, 4 from
// cache; 8,192 rows of 8 parts are 0.5 MB, so the launch's own cost is the limit.
KERNEL(cross_entropy_join, 256, const float* parts, const float* weights, float* loss, float* lse, uint32_t count,
       uint32_t rows) {
  const uint64_t t = thread_index(), step = 2 * static_cast<uint64_t>(rows);
  if (t >= rows) return;
  float top = parts[t];
  for (uint32_t p = 1; p < count; p++) top = fmaxf(top, parts[p * step + t]);
  float sum = 0, logit = 0;
  for (uint32_t p = 0; p < count; p++) {
    sum += expf(parts[p * step + t] - top);
    logit += parts[p * step + rows + t];
  }
  const float value = top + logf(sum);
  lse[t] = value;
  loss[t] = weights[t] * (value - logit);
}

KERNEL(argmax, 512, const float* x, uint32_t* y, uint32_t rows, uint32_t width, uint32_t team) {
  const Team own = {team};
  if (own.row() >= rows) return;
  x += own.row() * width;
  const uint32_t index = width % 4 == 0 ? argmax_row<4>(own, x, width) : argmax_row<1>(own, x, width);
  if (own.lane() == 0) y[own.row()] = index;
}

// Packs first to first + 1,024 of row t.
template <uint32_t N, typename From, typename To>
DEVICE void backward_tile(float scale, const void* logits, float lse, uint32_t target, void* dlogits,
                          uint32_t width, uint32_t first) {
  for (uint32_t i = first + threadIdx.x; i < min(first + 1024, width / N); i += 256) {
    Pack<N> d = map<N>([=](float v) { return expf(v - lse); }, load_stored<N, From>(logits, i));
    for (uint32_t j = 0; j < N; j++) d.v[j] = scale * (d.v[j] - (i * N + j == target ? 1.0f : 0.0f));
    store_stored<To>(dlogits, i, d);
  }
}

// A block makes one of `tiles` tiles of a row.
KERNEL(cross_entropy_backward, 256, const float* dloss, const void* logits, const float* lse,
       const uint32_t* targets, const float* weights, void* dlogits, uint32_t logits_format, uint32_t output_format,
       uint32_t first_target, uint32_t width, uint32_t tiles) {
  const uint32_t t = blockIdx.x / tiles, first = blockIdx.x % tiles * 1024, target = targets[t] - first_target;
  const uint64_t row = static_cast<uint64_t>(t) * width;
  const float scale = dloss[t] * weights[t];
  with_format(logits_format, [=](auto from) {
    with_format(output_format, [=](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      const void* x = static_cast<const uint8_t*>(logits) + From::BYTES * row;
      void* d = static_cast<uint8_t*>(dlogits) + To::BYTES * row;
      if (width % 4 == 0)
        backward_tile<4, From, To>(scale, x, lse[t], target, d, width, first);
      else
        backward_tile<1, From, To>(scale, x, lse[t], target, d, width, first);
    });
  });
}
