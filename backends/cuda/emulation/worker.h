// Threads of the operating system that run blocks. The one that executes a stream runs its launches itself, with help
// where a launch takes longer than waking others.
#pragma once
#include <signal.h>
#include <time.h>
#include <memory>
#include <string>
#include <vector>
#include "block.h"
#include "launch.h"

#pragma GCC visibility push(hidden)

namespace simt {

class Worker {
 public:
  // Made and used in one thread of the operating system.
  Worker();
  Worker(const Worker&) = delete;
  ~Worker();

  // Runs blocks of `launch` until none are left to take. `on_long` is called once if that takes a while.
  void work(Launch& launch, void (*on_long)(Launch&) = nullptr);

  // What a signal interrupted.
  struct Interrupted {
    uintptr_t instruction, stack_pointer, address;
    bool write;
  };
  // Ends the current block where a signal came from one of its threads; returns otherwise.
  void on_signal(int signal, const Interrupted& at);

 private:
  bool run(Launch& launch, std::unique_ptr<Block> block);
  bool run_waiting(Launch& launch);
  std::unique_ptr<Block> take_block();
  // Begins all blocks of a cluster, then runs each; false ends the launch.
  bool run_cluster(Launch& launch, uint64_t position);
  void fail_on_signal(Launch& launch, const Block& block);
  void set_ticking(bool on);
  [[noreturn]] void interrupt(int signal, const Interrupted& at);

  StackPool stacks_;
  std::vector<std::unique_ptr<Block>> idle_, waiting_;
  // The launch whose kernel runs, and for how many ticks its block has not come back to the worker.
  Launch* volatile current_ = nullptr;
  volatile uint32_t ticks_ = 0;
  // The signal that ended the block, where one did.
  int signal_ = 0;
  Interrupted interrupted_{};
  const Fiber* interrupted_fiber_ = nullptr;
  timer_t timer_;
  void* signal_stack_;
  stack_t previous_signal_stack_;
};

// Runs a whole launch; the caller's worker takes part.
void run_launch(Launch& launch, Worker& own);

// What the driver hands to kernel libraries.
extern const Runtime emulated_runtime;

// Says which allocation an address belongs or is next to; the driver sets it.
extern std::string (*describe_address)(uintptr_t address);

}  // namespace simt

#pragma GCC visibility pop
