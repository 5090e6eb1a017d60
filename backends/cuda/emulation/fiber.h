// Fibers: stacks that a thread of the operating system switches between. A fiber stays with the thread that made it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
#include "abi.h"
#ifndef SIMT_X86_64
#include <ucontext.h>
#endif

#pragma GCC visibility push(hidden)

namespace simt {

// Where a fiber goes on; its registers lie on its stack.
#ifdef SIMT_X86_64
using Context = void*;
#else
using Context = ucontext_t*;
#endif

class Block;

// A thread of a block as the scheduler sees it; it lies on the thread's own stack.
struct Fiber : Thread {
  Block* block;
  uint32_t id;
  // What the thread waits at, while it does.
  Collective collective;
  uint32_t mask;
  uint32_t source_lane;
  uint64_t operand;
  uint64_t result;
  Site site;
  Context context;
};
static_assert(sizeof(Fiber) <= THREAD_BYTES);

#ifdef SIMT_X86_64
extern "C" void exactmap_switch_stack(Context* from, Context to);
#endif

// Saves where the caller is in `from` and goes on at `to`.
inline void switch_context(Context& from, Context to) {
#ifdef SIMT_X86_64
  exactmap_switch_stack(&from, to);
#else
  ucontext_t here;
  from = &here;
  swapcontext(&here, to);
#endif
}

// Stacks for fibers, each above a page that faults.
class StackPool {
 public:
  StackPool() = default;
  StackPool(const StackPool&) = delete;
  ~StackPool();
  // A fiber whose context starts `entry` on its stack.
  Fiber& take(void (*entry)());
  void give_back(Fiber& fiber) { free_.push_back(&fiber); }
  // As give_back, for a fiber that stopped in the middle of a kernel: its frames' poison is cleared.
  void abandon(Fiber& fiber);
  bool holds(uintptr_t address) const;

 private:
  void grow();
  std::vector<void*> slabs_;
  std::vector<Fiber*> free_;
};

}  // namespace simt

#pragma GCC visibility pop
