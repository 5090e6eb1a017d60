// Faults of a kernel's threads: a signal in a fiber ends its launch and not the process. Everything else goes to the
// handler that was there before.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <mutex>
#include <new>
#include "worker.h"

namespace simt {

// In the static TLS block, which a signal handler may read at any time.
static thread_local Worker* current_worker __attribute__((tls_model("initial-exec"))) = nullptr;

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr size_t SIGNAL_STACK_BYTES = 64 * 1024;
static struct sigaction previous[64];

static void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& other = previous[signal];
  if (other.sa_flags & SA_SIGINFO) {
    other.sa_sigaction(signal, info, context);
  } else if (other.sa_handler != SIG_DFL && other.sa_handler != SIG_IGN) {
    other.sa_handler(signal);
  } else {
    // The faulting instruction runs again and meets the default action.
    sigaction(signal, &other, nullptr);
  }
}

static void handle(int signal, siginfo_t* info, void* context) {
  if (current_worker) {
    [[maybe_unused]] const ucontext_t& machine = *static_cast<ucontext_t*>(context);
#ifdef __x86_64__
    const uintptr_t stack_pointer = static_cast<uintptr_t>(machine.uc_mcontext.gregs[REG_RSP]);
    const bool write = machine.uc_mcontext.gregs[REG_ERR] & 2;
#elif defined(__aarch64__)
    const uintptr_t stack_pointer = machine.uc_mcontext.sp;
    const bool write = false;
#else
#error "name the stack pointer of this processor in ucontext_t"
#endif
    current_worker->on_signal(signal, reinterpret_cast<uintptr_t>(info->si_addr), stack_pointer, write);
  }
  pass_on(signal, info, context);
}

static void install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (const int signal : SIGNALS) sigaction(signal, &action, &previous[signal]);
  });
}

Worker::Worker() {
  install_handlers();
  signal_stack_ = mmap(nullptr, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (signal_stack_ == MAP_FAILED) throw std::bad_alloc();
  stack_t stack{};
  stack.ss_sp = signal_stack_;
  stack.ss_size = SIGNAL_STACK_BYTES;
  sigaltstack(&stack, &previous_signal_stack_);
  current_worker = this;
}

Worker::~Worker() {
  current_worker = nullptr;
  sigaltstack(&previous_signal_stack_, nullptr);
  munmap(signal_stack_, SIGNAL_STACK_BYTES);
}

void Worker::on_signal(int signal, uintptr_t address, uintptr_t stack_pointer, bool write) {
  if (!in_kernel_ || !stacks_.holds(stack_pointer)) return;
  Fiber& fiber = static_cast<Fiber&>(thread_at(stack_pointer));
  fault_ = {signal, address, write, &fiber};
  // The handler is left for good, so what its return would do is done here.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  fiber.block->interrupt(fiber);
}

std::string Worker::describe_signal() const {
  if (fault_.signal == SIGFPE) return "integer division by zero or overflow of a division";
  if (fault_.signal == SIGILL) return "an instruction that does not exist";
  if (stacks_.holds(fault_.address)) return "the stack is full";
  char text[64];
  snprintf(text, sizeof text, "%s address 0x%llx", fault_.write ? "write to" : "read of",
           static_cast<unsigned long long>(fault_.address));
  return text + describe_address(fault_.address);
}

}  // namespace simt
