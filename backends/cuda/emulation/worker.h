// Threads of the operating system that run blocks. The one that executes a stream runs its launches itself, with help
// where a launch takes longer than waking others.
#pragma once
#include <signal.h>
#include <memory>
#include <string>
#include <vector>
#include "block.h"
#include "launch.h"

namespace simt {

class Worker {
 public:
  // Made and used in one thread of the operating system.
  Worker();
  Worker(const Worker&) = delete;
  ~Worker();

  // Runs blocks of `launch` until none are left to take. `on_long` is called once if that takes a while.
  void work(Launch& launch, void (*on_long)(Launch&) = nullptr);

  // Ends the current block where a signal came from one of its threads; returns otherwise.
  void on_signal(int signal, uintptr_t address, uintptr_t stack_pointer, bool write);

 private:
  bool run(Launch& launch, std::unique_ptr<Block> block);
  bool run_waiting(Launch& launch);
  std::unique_ptr<Block> take_block();
  std::string describe_signal() const;

  struct Fault {
    int signal = 0;
    uintptr_t address = 0;
    bool write = false;
    const Fiber* fiber = nullptr;
  };

  StackPool stacks_;
  std::vector<std::unique_ptr<Block>> idle_, waiting_;
  bool in_kernel_ = false;
  Fault fault_;
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
