// Elements side by side that move in one access, and kernels over flat ranges of them.
#pragma once
#include <type_traits>

#include "kernel.h"

// One or four elements of 4 bytes.
template <uint32_t N, typename T = float>
struct Pack {
  T v[N];
};

template <typename T>
using Vector4 = std::conditional_t<std::is_same_v<T, float>, float4, uint4>;

// The i-th pack of x. By the vector types, as only these surely become one 16-byte access.
template <uint32_t N, typename T>
DEVICE Pack<N, T> load_pack(const T* x, uint64_t i) {
  static_assert(N == 1 || N == 4, "no access of that width");
  if constexpr (N == 1) {
    return {{x[i]}};
  } else {
    const Vector4<T> v = reinterpret_cast<const Vector4<T>*>(x)[i];
    return {{v.x, v.y, v.z, v.w}};
  }
}

template <uint32_t N, typename T>
DEVICE void store_pack(T* y, uint64_t i, const Pack<N, T>& p) {
  if constexpr (N == 1) {
    y[i] = p.v[0];
  } else {
    reinterpret_cast<Vector4<T>*>(y)[i] = {p.v[0], p.v[1], p.v[2], p.v[3]};
  }
}

// f of each element of the packs.
template <uint32_t N, typename T = float, typename F, typename... X>
DEVICE Pack<N, T> map(F f, const X&... x) {
  Pack<N, T> y;
  for (uint32_t j = 0; j < N; j++) y.v[j] = f(x.v[j]...);
  return y;
}

// This thread's place in the grid.
DEVICE uint64_t thread_index() { return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// y = f(x...) for `count` elements, four a thread; the last thread takes what is left.
template <typename T, typename F, typename... X>
DEVICE void map_flat(T* y, uint64_t count, F f, const X*... x) {
  const uint64_t i = thread_index();
  if (4 * i + 4 <= count) {
    store_pack(y, i, map<4, T>(f, load_pack<4>(x, i)...));
  } else {
    for (uint64_t e = 4 * i; e < count; e++) y[e] = f(x[e]...);
  }
}
