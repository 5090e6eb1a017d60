// silu, gelu_tanh and their gradients; swiglu, geglu (y = activation(gate) * up) and their gradients.
//
// Bytes per element: 8 forward, 12 backward; gated 12 forward and 20 backward per element of half a row; in 16 bits
// half of that. Flops: 15 to
// 35 with one or two exp and as many divisions, about 40 to 80 instructions. At 4.8 TB/s a multiprocessor moves 20
// bytes a cycle, so 8 bytes pay for 50 instructions of its 128 lanes: memory bandwidth is the limit, arithmetic close.
#include "lib/activation.h"
#include "lib/stored.h"

template <typename A>
DEVICE void activate(const void* x, void* y, uint32_t format, uint64_t count) {
  with_format(format, [=](auto f) {
    map_stored<decltype(f)>(y, count, [](float v) { return A::value(v); }, x);
  });
}

template <typename A>
DEVICE void activate_backward(const void* dy, const void* x, void* dx, uint32_t format, uint64_t count) {
  with_format(format, [=](auto f) {
    map_stored<decltype(f)>(dx, count, [](float d, float v) { return d * A::derivative(v); }, dy, x);
  });
}

// Widths and counts are in packs: `width` of half a row, `count` of y.
template <typename A, uint32_t N>
DEVICE void gated(const void* x, void* y, uint32_t format, uint64_t width, uint64_t count) {
  const uint64_t i = thread_index();
  if (i >= count) return;
  const uint64_t gate = i + i / width * width, up = gate + width;
  with_format(format, [=](auto f) {
    using Format = decltype(f);
    store_stored<Format>(y, i, map<N>([](float g, float u) { return A::value(g) * u; },
                                      load_stored<N, Format>(x, gate), load_stored<N, Format>(x, up)));
  });
}

template <typename A, uint32_t N>
DEVICE void gated_backward(const void* dy, const void* x, void* dx, uint32_t format, uint64_t width,
                           uint64_t count) {
  const uint64_t i = thread_index();
  if (i >= count) return;
  const uint64_t gate = i + i / width * width, up = gate + width;
  with_format(format, [=](auto f) {
    using Format = decltype(f);
    const Pack<N> d = load_stored<N, Format>(dy, i), g = load_stored<N, Format>(x, gate),
                  u = load_stored<N, Format>(x, up);
    store_stored<Format>(dx, gate,
                         map<N>([](float d, float u, float g) { return d * u * A::derivative(g); }, d, u, g));
    store_stored<Format>(dx, up, map<N>([](float d, float g) { return d * A::value(g); }, d, g));
  });
}

KERNEL(silu, 256, const void* x, void* y, uint32_t format, uint64_t count) {
  activate<Silu>(x, y, format, count);
}

KERNEL(gelu_tanh, 256, const void* x, void* y, uint32_t format, uint64_t count) {
  activate<GeluTanh>(x, y, format, count);
}

KERNEL(silu_backward, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t count) {
  activate_backward<Silu>(dy, x, dx, format, count);
}

KERNEL(gelu_tanh_backward, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t count) {
  activate_backward<GeluTanh>(dy, x, dx, format, count);
}

KERNEL(swiglu_1, 256, const void* x, void* y, uint32_t format, uint64_t width, uint64_t count) {
  gated<Silu, 1>(x, y, format, width, count);
}

KERNEL(swiglu_4, 256, const void* x, void* y, uint32_t format, uint64_t width, uint64_t count) {
  gated<Silu, 4>(x, y, format, width, count);
}

KERNEL(geglu_1, 256, const void* x, void* y, uint32_t format, uint64_t width, uint64_t count) {
  gated<GeluTanh, 1>(x, y, format, width, count);
}

KERNEL(geglu_4, 256, const void* x, void* y, uint32_t format, uint64_t width, uint64_t count) {
  gated<GeluTanh, 4>(x, y, format, width, count);
}

KERNEL(swiglu_backward_1, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t width,
       uint64_t count) {
  gated_backward<Silu, 1>(dy, x, dx, format, width, count);
}

KERNEL(swiglu_backward_4, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t width,
       uint64_t count) {
  gated_backward<Silu, 4>(dy, x, dx, format, width, count);
}

KERNEL(geglu_backward_1, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t width,
       uint64_t count) {
  gated_backward<GeluTanh, 1>(dy, x, dx, format, width, count);
}

KERNEL(geglu_backward_4, 256, const void* dy, const void* x, void* dx, uint32_t format, uint64_t width,
       uint64_t count) {
  gated_backward<GeluTanh, 4>(dy, x, dx, format, width, count);
}
