// One persistent kernel that does all launches of a program's segment: the walker. Its text is generated
// (backends/cuda/walker.ts): this file, then every module that the segment's launches come from, in a namespace each
// and in the mode that the end of this file turns on, then `run_step`, which calls the kernel of a number.
//
// A block of the walker has a multiprocessor and goes through the steps in order. Its threads stand for as many blocks
// of a launch as fit, its teams: with 128 threads a block, four. Block i of a launch is done by a fixed team. A step
// begins when the steps it comes after are done, which each counts up to its number of blocks; blocks that have no part
// in a step are at the next one already. Steps that do not depend on each other therefore overlap, as in a graph.
//
// What it saves: between two dependent nodes of a graph a GPU needs some 1.3 us (predicted, not measured), in which no
// memory moves. Here it is a counter's way through the second-level cache, some 0.7 us (predicted), and a block that
// waits has begun to fetch its part of a STREAMED argument. A step of a 1B model is 150 launches, 2.5 GB and 0.52 ms of
// memory at 4.8 TB/s: gaps of 0.20 ms become 0.11 ms, mostly filled.
//
// All threads hold registers for the most demanding kernel: 128 each, at 512 threads of 65,536 registers.
#pragma once
#include <cstring>
#include <type_traits>
#include <utility>

#include "barrier.h"
#include "kernel.h"
#include "progress.h"

namespace walker {

constexpr uint32_t THREADS = 512, MOST_TEAMS = 8, POINTERS = 11;
constexpr uint32_t COUNTER_WORDS = 32;          // a counter has a line of the cache to itself
constexpr uint32_t PREFETCH_BYTES = 64 * 1024;  // at most, for a team

// What the runtime (runtime/walk.c) writes for each step.
struct alignas(16) Step {
  uint32_t kernel;              // its number in run_step
  uint32_t threads, blocks;     // of the launch
  uint32_t turn;                // the walker's block that has block 0
  uint32_t after, after_count;  // where the list of steps to wait for begins, and how many they are
  uint64_t streamed, streamed_bytes;
  uint64_t pointers[POINTERS];
};
static_assert(sizeof(Step) == 128);

struct After {
  uint32_t step, blocks;
};

DEVICE constexpr uint32_t teams_of(uint32_t threads) {
  return THREADS / threads < MOST_TEAMS ? THREADS / threads : MOST_TEAMS;
}

constexpr uint32_t TEAMS_BYTES = 216 * 1024;  // of shared memory, for all teams

// Where a thread is on its way is here and not in registers, which the kernels need.
struct Memory {
  uint32_t block[THREADS];  // by thread: the block of the launch that it is in
  Step step;
  uint32_t index;  // of the step
  uint32_t is_last;
  alignas(1024) unsigned char teams[TEAMS_BYTES];
};

DEVICE Memory& memory() {
  DYNAMIC_SHARED(all, Memory);
  return all;
}

// What DYNAMIC_SHARED and SHARED stand for. A team's memory has the dynamic memory of its kernels' file first, and an
// equal part of the rest for each of the ARRAYS of the file and what it includes. Instantiations of a template share
// one.
DEVICE constexpr uint32_t team_bytes(uint32_t threads) { return TEAMS_BYTES / teams_of(threads) / 1024 * 1024; }

template <uint32_t BLOCK_THREADS>
DEVICE unsigned char* team_memory() {
  return memory().teams + threadIdx.x / BLOCK_THREADS * team_bytes(BLOCK_THREADS);
}

template <class T, uint32_t BLOCK_THREADS, uint32_t DYNAMIC_BYTES>
DEVICE T& dynamic_shared() {
  static_assert(sizeof(T) <= DYNAMIC_BYTES && DYNAMIC_BYTES <= team_bytes(BLOCK_THREADS));
  return *reinterpret_cast<T*>(team_memory<BLOCK_THREADS>());
}

template <class T, uint32_t BLOCK_THREADS, uint32_t DYNAMIC_BYTES, uint32_t ARRAYS, uint32_t INDEX>
DEVICE T& shared_array() {
  constexpr uint32_t first = (DYNAMIC_BYTES + 15) / 16 * 16;
  constexpr uint32_t part = (team_bytes(BLOCK_THREADS) - first) / ARRAYS / 16 * 16;
  static_assert(sizeof(T) <= part, "a SHARED array is too large for a walker's team");
  return *reinterpret_cast<T*>(team_memory<BLOCK_THREADS>() + first + INDEX * part);
}

template <uint32_t BLOCK_THREADS>
DEVICE void team_sync() {
  barrier_sync(1 + threadIdx.x / BLOCK_THREADS, BLOCK_THREADS);
}

// What threadIdx, blockIdx and gridDim are in a walked kernel.
struct Index {
  uint32_t x;
};
template <uint32_t BLOCK_THREADS>
DEVICE Index thread_index() {
  return {threadIdx.x % BLOCK_THREADS};
}
DEVICE Index block_index() { return {memory().block[threadIdx.x]}; }
DEVICE Index grid_size() { return {memory().step.blocks}; }

template <class T>
DEVICE T value_of(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// A kernel's pointers come from the step, its scalars, which the compiler sees, from the generated text.
template <class T, size_t INDEX, uint64_t... SCALARS>
DEVICE T argument() {
  if constexpr (std::is_pointer_v<T>) {
    return value_of<T>(memory().step.pointers[INDEX]);
  } else {
    constexpr uint64_t scalars[] = {SCALARS...};
    return value_of<T>(scalars[INDEX]);
  }
}

template <auto kernel>
struct Call;
template <class... Parameters, void (*kernel)(Parameters...)>
struct Call<kernel> {
  static constexpr size_t pointers = (0 + ... + static_cast<size_t>(std::is_pointer_v<Parameters>));
  static_assert(pointers <= POINTERS);
  template <uint64_t... SCALARS, size_t... i>
  DEVICE static void run(std::index_sequence<i...>) {
    static_assert(pointers + sizeof...(SCALARS) == sizeof...(Parameters));
    kernel(argument<Parameters, std::is_pointer_v<Parameters> ? i : i - pointers, SCALARS...>()...);
  }
  template <uint64_t... SCALARS>
  DEVICE static void run() {
    run<SCALARS...>(std::index_sequence_for<Parameters...>());
  }
};

// Of the blocks of a step, this block of the walker has this one and every gridDim.x-th from there.
DEVICE uint32_t first_block(uint32_t turn) {
  return blockIdx.x >= turn ? blockIdx.x - turn : blockIdx.x + gridDim.x - turn;
}

template <uint32_t BLOCK_THREADS, auto kernel, uint64_t... SCALARS>
DEVICE void run_blocks() {
  constexpr uint32_t TEAMS = teams_of(BLOCK_THREADS);
  static_assert(THREADS % BLOCK_THREADS == 0 && BLOCK_THREADS % 32 == 0);
  Memory& own = memory();
  const uint32_t team = threadIdx.x / BLOCK_THREADS;
  if (team >= TEAMS) return;
  for (own.block[threadIdx.x] = first_block(own.step.turn) + team * gridDim.x;
       own.block[threadIdx.x] < own.step.blocks; own.block[threadIdx.x] += TEAMS * gridDim.x) {
    Call<kernel>::template run<SCALARS...>();
    team_sync<BLOCK_THREADS>();  // until here the team's memory may still be read
  }
}

// The team's first part of what the step streams.
DEVICE void prefetch(const Step& step, uint32_t first) {
  const uint32_t team = threadIdx.x / step.threads, i = first + team * gridDim.x;
  if (step.streamed_bytes == 0 || threadIdx.x % step.threads != 0 || team >= teams_of(step.threads) || i >= step.blocks)
    return;
  const uint64_t begin = step.streamed_bytes * i / step.blocks / 16 * 16;
  const uint64_t end = step.streamed_bytes * (i + 1) / step.blocks / 16 * 16, bytes = end - begin;
  if (bytes > 0)
    prefetch_bytes(reinterpret_cast<const unsigned char*>(step.streamed) + begin,
                   static_cast<uint32_t>(bytes < PREFETCH_BYTES ? bytes : PREFETCH_BYTES));
}

}  // namespace walker

// Runs what this block has of the step in memory; generated.
DEVICE void run_step(uint32_t kernel);

// `done` has a counter for each step and one behind them for the walker's blocks, all zero, which the last block to
// end makes them again.
KERNEL_SHARED(walk, 512, 224256, const void* steps, const void* after, uint32_t* done, uint32_t count) {
  using namespace walker;
  static_assert(sizeof(Memory) == 224256);
  Memory& own = memory();
  for (uint32_t s = 0; s < count; s++) {
    const Step& step = static_cast<const Step*>(steps)[s];
    const uint32_t first = first_block(step.turn);
    if (first >= step.blocks) continue;
    if (threadIdx.x == 32) {
      own.step = step;
      own.index = s;
    }
    prefetch(step, first);
    const After* waits = static_cast<const After*>(after) + step.after;
    if (threadIdx.x < 32)
      for (uint32_t a = threadIdx.x; a < step.after_count; a += 32)
        progress_wait(done + waits[a].step * COUNTER_WORDS, waits[a].blocks);
    __syncthreads();
    progress_fence();
    run_step(own.step.kernel);
    s = own.index;
    const uint32_t blocks = (own.step.blocks - first_block(own.step.turn) + gridDim.x - 1) / gridDim.x;
    __syncthreads();
    if (threadIdx.x == 0) progress_add(done + s * COUNTER_WORDS, blocks);
  }
  if (threadIdx.x == 0) own.is_last = progress_count(done + count * COUNTER_WORDS) == gridDim.x - 1;
  __syncthreads();
  if (own.is_last)
    for (uint32_t s = threadIdx.x; s <= count; s += THREADS) done[s * COUNTER_WORDS] = 0;
}

// From here on kernels are functions, called by a team each; templates, so that those of a file that are not walked are
// not compiled. BLOCK_THREADS, DYNAMIC_BYTES, SHARED_ARRAYS and
// FIRST_SHARED are their namespace's.
#undef KERNEL
#undef KERNEL_SHARED
#undef KERNEL_CLUSTER
#undef DYNAMIC_SHARED
#undef SHARED
#undef threadIdx
#undef blockIdx
#undef gridDim
#define KERNEL(name, threads, ...) \
  template <uint32_t = 0>          \
  DEVICE void name(__VA_ARGS__)
#define KERNEL_SHARED(name, threads, bytes, ...) KERNEL(name, threads, __VA_ARGS__)
#define KERNEL_CLUSTER(name, threads, bytes, blocks, ...) KERNEL(name, threads, __VA_ARGS__)
#define DYNAMIC_SHARED(name, ...)  \
  using name##_type = __VA_ARGS__; \
  name##_type& name = walker::dynamic_shared<name##_type, BLOCK_THREADS, DYNAMIC_BYTES>()
#define SHARED(name, ...)                                                                          \
  using name##_type = __VA_ARGS__;                                                                 \
  name##_type& name = walker::shared_array<name##_type, BLOCK_THREADS, DYNAMIC_BYTES, SHARED_ARRAYS, \
                                           __COUNTER__ - FIRST_SHARED - 1>()
#define threadIdx (walker::thread_index<BLOCK_THREADS>())
#define blockIdx (walker::block_index())
#define gridDim (walker::grid_size())
#define __syncthreads() walker::team_sync<BLOCK_THREADS>()
