// What a kernel library and the emulated driver know of each other. The driver hands a Runtime to the library when it
// loads it and gets a KernelLibrary back, so neither needs the other's symbols.
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include "vector_types.h"

namespace simt {

// Changes with every change of this file: a library built against another one is refused.
constexpr uint32_t ABI_VERSION = 7;

// Where a thread waits. The line of the source names a barrier: a compiler may copy the call, so no address can.
using Site = std::source_location;

enum class Collective : uint32_t {
  none,
  barrier,
  barrier_count,
  barrier_and,
  barrier_or,
  barrier_of_some,
  syncwarp,
  shuffle,
  ballot,
  any,
  all,
  match_any,
  match_all,
  reduce_add,
  reduce_min,
  reduce_min_signed,
  reduce_max,
  reduce_max_signed,
  reduce_and,
  reduce_or,
  reduce_xor,
  yield,
};

// The state of a thread that its kernel reads. It lies near the top of the stack the thread runs on.
struct Thread {
  uint3 index;
  uint3 block_index;
  dim3 block_dim;
  dim3 grid_dim;
};

// A SHARED declaration: its address names it within a kernel library.
struct SharedArray {
  const char* name;
  uint32_t bytes;
};

// What the emulated cuTensorMapEncodeTiled makes of a matrix and a box, with the swizzle of 128 bytes; rows are
// `stride` bytes apart. With BYTES for MAGIC: one row of bytes for lib/bulk.h, which lie in shared memory as they are.
struct alignas(128) TensorMap {
  static constexpr uint32_t MAGIC = 0x7e45012au, BYTES = 0x7e45012bu;
  uint32_t magic;
  uint32_t element_bytes;
  const unsigned char* base;
  uint64_t width, rows, stride;
  uint32_t box_width, box_rows;
  uint64_t unused[10];
};
static_assert(sizeof(TensorMap) == 128);

enum class WgmmaFormat : uint32_t { f16, bf16, e4m3 };
// Which of an operand's indices its neighbours in shared memory differ in: k, or m (of A) and n (of B).
enum class WgmmaMajor : uint32_t { k, mn };

// What a thread issues of a wgmma besides its sums. A is in registers where they are given.
struct Wgmma {
  uint64_t a;
  const uint32_t* registers;
  uint64_t b;
  WgmmaFormat format;
  WgmmaMajor a_major, b_major;
  bool add;
};

// A product of tcgen05: what lib/tcgen05.h gives it, with formats numbered as there.
struct Tcgen05Product {
  uint32_t format;
  uint32_t sums;
  uint64_t a, b;
  uint32_t instruction, scales_a, scales_b;
  bool add;
  bool a_in_tensor_memory = false;  // `a` is its address there
  uint32_t ctas = 1;                // whose memories it works on: 2 of a pair, lib/tcgen05.h
};

struct Runtime {
  uint32_t abi_version;
  uint32_t (*barrier)(Thread&, Collective, bool predicate, Site);
  // Of `threads` threads of the block, whichever come; known by its number.
  void (*barrier_sync)(Thread&, uint32_t number, uint32_t threads, Site);
  uint64_t (*warp)(Thread&, Collective, uint32_t mask, uint64_t operand, uint32_t source_lane, Site);
  void* (*shared)(Thread&, const SharedArray&);
  // Lets other threads run. A wait on memory calls it as long as its condition is false.
  void (*yield)(Thread&, Site);
  // Tells the deadlock detection that a wait on memory has ended.
  void (*resume)(Thread&);
  [[noreturn]] void (*fail)(Thread&, const char* message, Site);

  // What runs beside the threads (async.h). Barriers are known by their address.
  void* (*dynamic_shared)(Thread&, size_t bytes, Site);
  uint32_t (*shared_address)(Thread&, const void*, Site);
  void (*fence_proxy_async)(Thread&);
  void (*mbarrier_init)(Thread&, const void* barrier, uint32_t count, Site);
  void (*mbarrier_invalidate)(Thread&, const void* barrier, Site);
  void (*mbarrier_fence_init)(Thread&);
  // At the barrier in the same place of block `rank` of the cluster; adds to the bytes that its phase takes.
  void (*mbarrier_arrive)(Thread&, const void* barrier, uint32_t rank, uint32_t bytes, Site);
  // Whether the phase of this parity is over; brings in one of the copies that it waits for.
  bool (*mbarrier_test)(Thread&, const void* barrier, uint32_t parity, Site);
  // Into the same place of all blocks of the cluster that have a bit in `ranks`.
  void (*tma_load)(Thread&, void* to, const TensorMap&, int32_t column, int32_t row, const void* barrier,
                   uint32_t ranks, Site);
  // Into the calling block, for the barrier in the same place of the first block of its pair.
  void (*tma_load_pair)(Thread&, void* to, const TensorMap&, int32_t column, int32_t row, const void* barrier, Site);
  // The box at (column, row), or added to what is there.
  void (*tma_store)(Thread&, const TensorMap&, int32_t column, int32_t row, const void* from, bool add, Site);
  void (*tma_store_commit)(Thread&);
  // Until all but `pending` groups have read their boxes, or stored them too.
  void (*tma_store_wait)(Thread&, uint32_t pending, bool read, Site);
  uint32_t (*cluster_rank)(Thread&);
  void (*cluster_sync)(Thread&, Site);
  void (*wgmma_fence)(Thread&);
  void (*wgmma)(Thread&, float* sums, uint32_t count, const Wgmma&, Site);
  void (*wgmma_commit)(Thread&);
  void (*wgmma_wait)(Thread&, uint32_t pending, Site);
  // Leaves the thread `count` registers: fewer, or more once its block has them.
  void (*give_registers)(Thread&, uint32_t count, Site);
  void (*take_registers)(Thread&, uint32_t count, Site);

  // Tensor memory (tensor_memory.h). Those of tmem are called by all lanes of a warp.
  void (*tmem_alloc)(Thread&, uint32_t* address, uint32_t columns, uint32_t ctas, Site);
  void (*tmem_relinquish)(Thread&, uint32_t ctas, Site);
  void (*tmem_free)(Thread&, uint32_t address, uint32_t columns, uint32_t ctas, Site);
  void (*tmem_load)(Thread&, float* to, uint32_t count, uint32_t from, Site);
  void (*tmem_wait)(Thread&, Site);
  void (*tmem_store)(Thread&, uint32_t to, const uint32_t* from, uint32_t count, Site);
  void (*tmem_wait_stores)(Thread&, Site);
  void (*tcgen05_fence)(Thread&, bool after);
  void (*tcgen05_mma)(Thread&, const Tcgen05Product&, Site);
  void (*tcgen05_copy_words)(Thread&, uint32_t to, uint64_t words, uint32_t ctas, Site);
  void (*tcgen05_commit)(Thread&, const void* barrier, uint32_t ctas, Site);
};

struct Kernel {
  const char* name;
  uint32_t threads;
  uint32_t dynamic_shared;
  uint32_t cluster;  // blocks, neighbours in x
  uint32_t parameter_count;
  const uint32_t* parameter_bytes;
  void (*run)(void* const* parameters);
  const Kernel* next;
};

struct KernelLibrary {
  uint32_t abi_version;
  const Kernel* first;
};
using OpenLibrary = const KernelLibrary*(const Runtime*);
#define SIMT_OPEN_LIBRARY exactmap_emulated_library

// Stacks have this size and alignment, so that a thread finds its state from the stack pointer alone. The state's
// distance from the top differs from stack to stack: at equal distances, all threads would share a cache set.
constexpr uintptr_t STACK_BYTES = 256 * 1024;
constexpr uintptr_t THREAD_BYTES = 192, STACK_COLOURS = 256;

inline Thread& thread_at(uintptr_t stack_pointer) {
  const uintptr_t stack = stack_pointer / STACK_BYTES;
  const uintptr_t colour = stack % STACK_COLOURS;
  return *reinterpret_cast<Thread*>((stack + 1) * STACK_BYTES - (colour + 1) * THREAD_BYTES);
}

// Other processors switch stacks by ucontext, and so does a build with SIMT_UCONTEXT.
#if defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_X86_64
#endif

inline __attribute__((always_inline)) Thread& this_thread() {
#ifdef SIMT_X86_64
  uintptr_t stack_pointer;
  asm("mov %%rsp, %0" : "=r"(stack_pointer));
  return thread_at(stack_pointer);
#else
  return thread_at(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
#endif
}

}  // namespace simt
