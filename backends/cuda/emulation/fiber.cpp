#include "fiber.h"
#include <sys/mman.h>
#include <unistd.h>
#include <new>
#include "sanitizer.h"

#pragma GCC visibility push(hidden)

namespace simt {

#ifdef SIMT_X86_64

// Only what the calling convention keeps for the caller: a switch is a call. `from` is in rdi, `to` in rsi.
asm(R"(
.text
.globl exactmap_switch_stack
.hidden exactmap_switch_stack
.type exactmap_switch_stack, @function
exactmap_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size exactmap_switch_stack, . - exactmap_switch_stack
)");

static void start_context(Fiber& fiber, void (*entry)()) {
  // Six registers, the address that the switch returns to, and none for the entry itself to return to.
  void** top = reinterpret_cast<void**>(&fiber);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.context = top;
}

#else

// The first context lies below the fiber's state, and the stack below that.
static void start_context(Fiber& fiber, void (*entry)()) {
  const uintptr_t top = reinterpret_cast<uintptr_t>(&fiber), base = top / STACK_BYTES * STACK_BYTES;
  const uintptr_t first = (top - sizeof(ucontext_t)) & ~uintptr_t{63};
  fiber.context = reinterpret_cast<ucontext_t*>(first);
  getcontext(fiber.context);
  fiber.context->uc_link = nullptr;
  fiber.context->uc_stack.ss_sp = reinterpret_cast<void*>(base);
  fiber.context->uc_stack.ss_size = first - base;
  makecontext(fiber.context, entry, 0);
}

#endif

constexpr size_t SLAB_STACKS = 64;

StackPool::~StackPool() {
  for (void* slab : slabs_) munmap(slab, SLAB_STACKS * STACK_BYTES);
}

void StackPool::grow() {
  const size_t bytes = SLAB_STACKS * STACK_BYTES;
  void* mapped = mmap(nullptr, bytes + STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t slab = (start + STACK_BYTES - 1) / STACK_BYTES * STACK_BYTES;
  if (slab > start) munmap(mapped, slab - start);
  if (slab < start + STACK_BYTES) munmap(reinterpret_cast<void*>(slab + bytes), start + STACK_BYTES - slab);
  slabs_.push_back(reinterpret_cast<void*>(slab));
  for (size_t i = SLAB_STACKS; i-- > 0;) {
    const uintptr_t stack = slab + i * STACK_BYTES;
    mprotect(reinterpret_cast<void*>(stack), static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
    free_.push_back(new (&thread_at(stack)) Fiber());
  }
}

Fiber& StackPool::take(void (*entry)()) {
  if (free_.empty()) grow();
  Fiber& fiber = *free_.back();
  free_.pop_back();
  start_context(fiber, entry);
  return fiber;
}

void StackPool::abandon(Fiber& fiber) {
  const uintptr_t top = reinterpret_cast<uintptr_t>(&fiber), base = top / STACK_BYTES * STACK_BYTES;
  sanitizer::unpoison(reinterpret_cast<void*>(base), top - base);
  give_back(fiber);
}

bool StackPool::holds(uintptr_t address) const {
  for (const void* slab : slabs_)
    if (address - reinterpret_cast<uintptr_t>(slab) < SLAB_STACKS * STACK_BYTES) return true;
  return false;
}

}  // namespace simt
