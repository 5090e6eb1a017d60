// What kernels-cuda/lib/kernel.h includes where no nvcc compiles it: CUDA's dialect as plain C++ whose threads run as
// fibers of the emulated driver beside this file. Commands, from the root of the project:
//
//   driver   g++ -std=c++20 -O2 -g1 -fPIC -shared backends/cuda/emulation/*.cpp
//              -o dist/cuda/emulated/libcuda-emulated.so -ldl -lpthread
//   kernels  g++ -std=c++20 -O2 -g1 -fPIC -shared -ffp-contract=off -I backends/cuda/emulation -I kernels-cuda
//              -x c++ kernels-cuda/X.cu -o X.so
//
// A kernel library has no undefined symbol of the driver and no thread-local variable; it may be built with
// -fsanitize=address or undefined while the driver is not, in a process that has the sanitizer's runtime.
//
// Stricter than CUDA: a thread that has exited does not count as having arrived at a barrier or a warp function.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include "abi.h"

// Tensor maps are passed by value between files of one compiler only.
#pragma GCC diagnostic ignored "-Wpsabi"

// Hidden, so that two libraries never share a kernel, a template or a SHARED array of the same name.
#pragma GCC visibility push(hidden)

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

#define threadIdx (simt::this_thread().index)
#define blockIdx (simt::this_thread().block_index)
#define blockDim (simt::this_thread().block_dim)
#define gridDim (simt::this_thread().grid_dim)
constexpr int warpSize = 32;

namespace simt {

inline const Runtime* runtime = nullptr;
inline KernelLibrary library{ABI_VERSION, nullptr};

template <class To, class From>
__forceinline__ To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<From>);
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// Calls a kernel with the parameters that the driver's kernelParams point at.
template <auto function>
struct Entry;
template <class... Parameters, void (*function)(Parameters...)>
struct Entry<function> {
  static constexpr uint32_t bytes[] = {sizeof(Parameters)..., 0};
  static constexpr uint32_t count = sizeof...(Parameters);
  template <size_t... i>
  static void call(void* const* parameters, std::index_sequence<i...>) {
    function(*static_cast<Parameters*>(parameters[i])...);
  }
  static void run(void* const* parameters) { call(parameters, std::make_index_sequence<count>()); }
};

struct Registration {
  Kernel kernel;
  explicit Registration(const Kernel& declared) : kernel(declared) {
    kernel.next = library.first;
    library.first = &kernel;
  }
};

template <class T>
__forceinline__ T& shared(const SharedArray& array) {
  return *static_cast<T*>(runtime->shared(this_thread(), array));
}

}  // namespace simt

using simt::TensorMap;
#define TENSOR_MAP const TensorMap
constexpr uint32_t DYNAMIC_SHARED_LIMIT = 227 * 1024;

#define KERNEL(name, threads, ...) KERNEL_CLUSTER(name, threads, 0, 1, __VA_ARGS__)
#define KERNEL_SHARED(name, threads, shared_bytes, ...) KERNEL_CLUSTER(name, threads, shared_bytes, 1, __VA_ARGS__)
#define KERNEL_CLUSTER(name, threads, shared_bytes, blocks, ...)                                          \
  static_assert(threads >= 1 && threads <= 1024 && shared_bytes <= DYNAMIC_SHARED_LIMIT);                 \
  static_assert(blocks >= 1 && blocks <= 8);                                                              \
  static void name(__VA_ARGS__);                                                                          \
  static const simt::Registration name##_registration{{#name, threads, shared_bytes, blocks,              \
                                                       simt::Entry<&name>::count, simt::Entry<&name>::bytes, \
                                                       &simt::Entry<&name>::run, nullptr}};               \
  static void name(__VA_ARGS__)

#define DYNAMIC_SHARED(name, ...)      \
  using name##_type = __VA_ARGS__;     \
  name##_type& name = *static_cast<name##_type*>( \
    simt::runtime->dynamic_shared(simt::this_thread(), sizeof(name##_type), simt::Site::current()))

#define SHARED(name, ...)                                                       \
  using name##_type = __VA_ARGS__;                                              \
  static constexpr simt::SharedArray name##_array{#name, sizeof(name##_type)}; \
  name##_type& name = simt::shared<name##_type>(name##_array)

extern "C" __attribute__((weak, visibility("default"))) const simt::KernelLibrary* SIMT_OPEN_LIBRARY(
  const simt::Runtime* runtime) {
  if (runtime->abi_version == simt::ABI_VERSION) simt::runtime = runtime;
  return &simt::library;
}

#include "atomics.h"
#include "barriers.h"
#include "intrinsics.h"
