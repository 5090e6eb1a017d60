// Runs the threads of one block on fibers. A thread starts on the stack of the one before it where that one has
// ended, so threads that never wait cost a call each; a stack of its own is what a thread gets by waiting.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>
#include "async.h"
#include "fiber.h"
#include "launch.h"
#include "order.h"
#include "shared_memory.h"
#include "tensor_memory.h"

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t MAX_THREADS = 1024, WARP = 32, BARRIERS = 16;

class Block;

// Blocks that run together on one worker and reach each other's shared memory; one that has ended is null.
struct Cluster {
  std::vector<Block*> blocks;
  // Threads that have come to the barrier of the cluster, and how often it was complete.
  uint32_t arrived = 0, completed = 0;
};

class Block {
 public:
  enum class State { running, done, waiting, failed };

  explicit Block(StackPool& stacks) : stacks_(stacks) {}
  // Block `rank` of the cluster at this position of the launch.
  void begin(Launch& launch, uint64_t position, const std::shared_ptr<Cluster>& cluster, uint32_t rank);
  // Runs until every thread has ended, only waits on memory, or the launch has failed. Called on the worker's stack.
  State run();
  // Gives back the stacks of threads that will not go on.
  void abandon();

  // What a kernel's threads call; `self` is the caller.
  uint32_t barrier(Fiber& self, Collective collective, bool predicate, const Site& site);
  void barrier_sync(Fiber& self, uint32_t number, uint32_t threads, const Site& site);
  uint64_t warp(Fiber& self, Collective collective, uint32_t mask, uint64_t operand, uint32_t source,
                const Site& site);
  void* shared(Fiber& self, const SharedArray& array);
  void yield(Fiber& self, const Site& site);
  void resume() { mark_progress(); }
  [[noreturn]] void fail(Fiber& self, Failure failure, const std::string& what);
  [[noreturn]] void fail(Fiber& self, const std::string& what, const Site& site);
  // What runs beside the threads; a problem there ends the launch.
  Async& async() { return async_; }
  TensorMemory& tensor_memory() { return tensor_memory_; }
  void check(Fiber& self, const Async::Problem& problem, const Site& site) {
    if (!problem.empty()) fail(self, problem, site);
  }
  uint32_t cluster_rank() const { return rank_; }
  void cluster_sync(Fiber& self, const Site& site);
  // Whether all blocks of the cluster are known to have started.
  bool cluster_met() const { return cluster_->completed > 0; }
  void mbarrier_arrive(Fiber& self, const void* barrier, uint32_t rank, uint32_t bytes, const Site& site);
  void tma_load(Fiber& self, void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier,
                uint32_t ranks, const Site& site);
  void tma_load_pair(Fiber& self, void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier,
                     const Site& site);
  void wgmma_wait(Fiber& self, uint32_t pending, const Site& site);
  // What setmaxnreg does: the block has as many registers as its threads began with.
  void give_registers(Fiber& self, uint32_t count, const Site& site);
  void take_registers(Fiber& self, uint32_t count, const Site& site);
  // Ends the launch from a signal handler, which formats nothing.
  [[noreturn]] void interrupt(Fiber& self);

  // What every thread of the block waits at.
  std::string waits() const;
  std::string place() const;

 private:
  // Lanes of a warp that have arrived at a warp function.
  struct Group {
    uint32_t mask, arrived;
    Collective collective;
  };
  struct Warp {
    uint32_t exited;
    uint32_t groups;
    std::array<Group, WARP> group;
  };

  static void thread_entry();
  [[noreturn]] void run_threads(Fiber& self);
  Fiber& new_fiber();
  // The thread that starts as the position-th.
  uint32_t started_thread(uint32_t position) const {
    const Order::Pattern pattern = launch_->order.pattern;
    if (pattern == Order::forward) return position;
    return pattern == Order::reverse ? threads_ - 1 - position : start_order_[position];
  }
  bool starts_next();
  void wait(Fiber& self);
  Context next();
  void make_ready(Fiber& fiber);
  Fiber& take_ready();
  void mark_progress();
  void finish(Fiber& self);
  void complete(Fiber& self, uint32_t first, const Group& group);
  void release_barrier();
  Context diagnose();
  // Whether warps of a warpgroup have different numbers of registers, which a device does not allow.
  Async::Problem check_registers() const;

  StackPool& stacks_;
  SharedMemory shared_;
  Async async_;
  TensorMemory tensor_memory_;
  std::shared_ptr<Cluster> cluster_;
  uint32_t rank_ = 0;
  Block& peer(Fiber& self, uint32_t rank, const Site& site);
  const Kernel* kernel_ = nullptr;
  Launch* launch_ = nullptr;
  uint64_t launch_serial_ = 0;
  Context worker_{};
  State state_ = State::done;
  dim3 index_;
  Random random_{0};
  bool progressing_ = false;

  uint32_t threads_ = 0, started_ = 0, finished_ = 0;
  std::array<uint16_t, MAX_THREADS> start_order_;
  std::array<Fiber*, MAX_THREADS> live_{}, ready_;
  uint32_t ready_first_ = 0, ready_count_ = 0;
  std::vector<Fiber*> polling_;

  uint32_t arrived_ = 0, true_count_ = 0, barrier_result_ = 0;
  bool divergent_ = false;
  Site barrier_site_;
  Collective barrier_ = Collective::none;
  // Those of some threads, by number: who waits there.
  std::array<std::vector<Fiber*>, BARRIERS> waiting_at_;
  std::array<uint32_t, BARRIERS> threads_of_{};
  std::array<Warp, MAX_THREADS / WARP> warps_;

  std::array<uint16_t, MAX_THREADS> registers_;
  uint32_t free_registers_ = 0;
};

}  // namespace simt

#pragma GCC visibility pop
