// Faults of a kernel's threads: a signal in a fiber ends its launch and not the process. Everything else goes to the
// handler that was there before.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include "worker.h"

#pragma GCC visibility push(hidden)

namespace simt {

// In the static TLS block, which a signal handler may read at any time.
static thread_local Worker* current_worker __attribute__((tls_model("initial-exec"))) = nullptr;

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr size_t SIGNAL_STACK_BYTES = 64 * 1024;
// A worker gets a signal so often while it runs a launch, to find kernels that do not end.
constexpr int TICKS_PER_SECOND = 10;
static int tick_signal() { return SIGRTMAX - 3; }

static uint32_t seconds_allowed() {
  static const uint32_t seconds = [] {
    const char* text = std::getenv("EXACTMAP_EMULATED_TIMEOUT");
    const long asked = text ? std::strtol(text, nullptr, 10) : 0;
    return asked > 0 ? static_cast<uint32_t>(asked) : 120;
  }();
  return seconds;
}
static struct sigaction previous[NSIG];

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

static Worker::Interrupted interrupted(const siginfo_t* info, const void* context) {
  const mcontext_t& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
#ifdef __x86_64__
  const auto value = [&](int name) { return static_cast<uintptr_t>(machine.gregs[name]); };
  return {value(REG_RIP), value(REG_RSP), address, (value(REG_ERR) & 2) != 0};
#elif defined(__aarch64__)
  return {machine.pc, machine.sp, address, false};
#else
#error "name the registers of this processor in mcontext_t"
#endif
}

static void handle(int signal, siginfo_t* info, void* context) {
  if (current_worker) current_worker->on_signal(signal, interrupted(info, context));
  if (signal != tick_signal()) pass_on(signal, info, context);
}

static void install_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (const int signal : SIGNALS) sigaction(signal, &action, &previous[signal]);
    action.sa_flags |= SA_RESTART;
    sigaction(tick_signal(), &action, nullptr);
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
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = tick_signal();
  event._sigev_un._tid = gettid();
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) throw std::bad_alloc();
}

Worker::~Worker() {
  timer_delete(timer_);
  current_worker = nullptr;
  sigaltstack(&previous_signal_stack_, nullptr);
  munmap(signal_stack_, SIGNAL_STACK_BYTES);
}

void Worker::set_ticking(bool on) {
  itimerspec every{};
  if (on) every.it_value.tv_nsec = every.it_interval.tv_nsec = 1000000000 / TICKS_PER_SECOND;
  timer_settime(timer_, 0, &every, nullptr);
}

void Worker::on_signal(int signal, const Interrupted& at) {
  if (!current_ || !stacks_.holds(at.stack_pointer)) return;
  if (signal == tick_signal()) {
    ticks_ = ticks_ + 1;
    // Outside the kernel's own code a lock may be held.
    if (ticks_ < seconds_allowed() * TICKS_PER_SECOND || !current_->code.holds(at.instruction)) return;
  }
  interrupt(signal, at);
}

void Worker::interrupt(int signal, const Interrupted& at) {
  Fiber& fiber = static_cast<Fiber&>(thread_at(at.stack_pointer));
  signal_ = signal;
  interrupted_ = at;
  interrupted_fiber_ = &fiber;
  // The handler is left for good, so what its return would do is done here.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  fiber.block->interrupt(fiber);
}

void Worker::fail_on_signal(Launch& launch, const Block& block) {
  Failure failure = Failure::launch_failed;
  std::string what;
  if (signal_ == tick_signal()) {
    failure = Failure::timeout;
    what = "the launch took longer than " + std::to_string(seconds_allowed()) +
           " seconds (EXACTMAP_EMULATED_TIMEOUT) without letting others run";
  } else if (signal_ == SIGFPE) {
    what = "integer division by zero, or whose quotient overflows";
  } else if (signal_ == SIGILL) {
    what = "an instruction that does not exist";
  } else if (stacks_.holds(interrupted_.address)) {
    what = "the stack is full";
  } else {
    failure = Failure::illegal_address;
    char text[64];
    snprintf(text, sizeof text, "%s address 0x%llx", interrupted_.write ? "write to" : "read of",
             static_cast<unsigned long long>(interrupted_.address));
    what = text + describe_address(interrupted_.address);
  }
  signal_ = 0;
  launch.fail(failure, block.place() + ", thread " + std::to_string(interrupted_fiber_->id) + ": " + what);
}

}  // namespace simt
