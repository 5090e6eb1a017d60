// What every kernel file includes first. The same text is compiled by nvcc into cubins, and by a C++ compiler into
// the CPU code of the emulated device (backends/cuda/emulation), so device code keeps to this dialect:
//
// - KERNEL(name, threads, parameters...) declares an entry point with blocks of `threads` threads (a literal, at most
//   1024, in x only). Parameters are pointers, then scalars of type uint32_t, int32_t, float or uint64_t. A pointer is
//   bound by name to a range of an arena, at an address that is a multiple of 256; two pointers of a launch never
//   overlap. OPTIONAL before a pointer says that it may be null; STREAMED, that block i of n reads about the i-th n-th
//   of what is bound to it, which a walker fetches ahead. Scalars are the constants of the launch.
//   This text is read by backends/cuda/signature.ts: no macros, templates or comments inside a parameter list.
// - TENSOR_MAP name is a parameter too: a matrix with a box, for lib/tma.h. It is bound by name as a pointer is, and
//   the launch has five more constants for it: name.format (as FORMAT_... of lib/epilogue.h), name.rows, name.width,
//   name.box_rows and name.box_width, in elements.
// - KERNEL_SHARED(name, threads, bytes, parameters...) is a KERNEL whose blocks have a multiprocessor each, with
//   `bytes` (a literal, at most 227 KB) of dynamic shared memory, aligned to 1,024: DYNAMIC_SHARED(name, type).
// - KERNEL_CLUSTER(name, threads, bytes, blocks, parameters...) is a KERNEL_SHARED whose blocks run in clusters of
//   `blocks` (a literal) neighbours, which reach each other's shared memory: lib/cluster.h. The grid is a multiple.
// - SHARED(name, type) declares static shared memory, aligned to 16 bytes: SHARED(tile, float[16][68]); at most 48 KB
//   in all. It holds garbage at first.
// - Inline PTX, and everything that waits on memory, lives in a wrapper of this folder with two bodies.
// - A walker (lib/walker.h) calls KERNEL and KERNEL_SHARED again and again in the same memory, without clusters and
//   tensor maps. So barriers of lib/mbarrier.h are invalidated at the end, and SHARED arrays of a template, which its
//   instantiations share there, lie behind a barrier when they are used first.
// - Nothing else of the CUDA headers than thread indices, barriers, warp functions, integer atomics (float atomics
//   would make results depend on timing), vector types and math functions.
#pragma once
#ifdef __CUDACC__
#include <cstdint>
#include <cuda_runtime.h>
// What the driver makes of a TENSOR_MAP.
struct alignas(128) TensorMap {
  uint64_t words[16];
};
#define TENSOR_MAP const __grid_constant__ TensorMap
constexpr uint32_t DYNAMIC_SHARED_LIMIT = 227 * 1024;
#define KERNEL(name, threads, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define KERNEL_SHARED(name, threads, bytes, ...)            \
  static_assert(bytes <= DYNAMIC_SHARED_LIMIT);             \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(__VA_ARGS__)
#define KERNEL_CLUSTER(name, threads, bytes, blocks, ...)                                            \
  static_assert(bytes <= DYNAMIC_SHARED_LIMIT);                                                      \
  extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(threads, 1) name(__VA_ARGS__)
#define DYNAMIC_SHARED(name, ...)                                       \
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];     \
  using name##_type = __VA_ARGS__;                                      \
  name##_type& name = *reinterpret_cast<name##_type*>(dynamic_shared)
#define SHARED(name, ...)            \
  using name##_type = __VA_ARGS__; \
  __shared__ __align__(16) name##_type name
#else
#include "simt.h"
#endif
#define OPTIONAL
#define STREAMED
#define DEVICE __device__ __forceinline__

constexpr uint32_t FULL_WARP = 0xffffffffu;
