// Packs of elements that are stored in f32, f16 or bf16 and computed with in f32: activations, their gradients, weights
// of norms.
#pragma once
#include "pack.h"
#include "storage.h"

// Calls f with the type of a format, numbered as in lib/epilogue.h. One branch ahead of all loads: inside the loops it
// would keep these from being in flight together.
template <typename F>
DEVICE void with_format(uint32_t format, F f) {
  if (format == 0) f(F32{});
  if (format == 1) f(F16{});
  if (format == 2) f(BF16{});
}

// The i-th pack of a tensor.
template <uint32_t N, typename Format>
DEVICE Pack<N> load_stored(const void* data, uint64_t i) {
  if constexpr (N == 1) {
    return {{Format::load(data, 0, i)}};
  } else {
    const float4 v = Format::load4(data, 0, 4 * i);
    return {{v.x, v.y, v.z, v.w}};
  }
}

template <typename Format, uint32_t N>
DEVICE void store_stored(void* data, uint64_t i, const Pack<N>& p) {
  if constexpr (N == 1) {
    Format::store(data, i, p.v[0]);
  } else {
    Format::store4(data, 4 * i, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]));
  }
}

// y = f(x...) for `count` elements of one format, four a thread; the last thread takes what is left.
template <typename Format, typename F, typename... X>
DEVICE void map_stored(void* y, uint64_t count, F f, const X*... x) {
  const uint64_t i = thread_index();
  if (4 * i + 4 <= count) {
    store_stored<Format>(y, i, map<4>(f, load_stored<4, Format>(x, i)...));
  } else {
    for (uint64_t e = 4 * i; e < count; e++) Format::store(y, e, f(Format::load(x, 0, e)...));
  }
}
