// A launch of a kernel: what all workers share while they run its blocks.
#pragma once
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include "abi.h"
#include "order.h"

#pragma GCC visibility push(hidden)

namespace simt {

enum class Failure { none, launch_failed, illegal_address, timeout };

// Where the code of a kernel library lies: a thread can be stopped there at any instruction.
struct CodeRange {
  uintptr_t begin = 0, end = 0;
  bool holds(uintptr_t address) const { return address >= begin && address < end; }
};

class Launch {
 public:
  Launch(const Kernel& kernel, CodeRange code, void* const* parameters, dim3 grid, uint32_t threads);

  // Tells launches apart that are at the same address one after the other.
  const uint64_t serial;
  const Kernel& kernel;
  const CodeRange code;
  void* const* parameters;
  const dim3 grid;
  const uint32_t threads;
  const Order order;
  // A block alone is a cluster of one.
  const uint64_t clusters;

  // Takes the next clusters to run: the first one's position and how many follow; 0 when none are left.
  uint64_t take(uint64_t workers, uint64_t& position);
  dim3 block_index(uint64_t position, uint32_t rank) const;
  bool exhausted() const { return next_.load(std::memory_order_relaxed) >= clusters; }

  // The first failure stays; every worker stops at its next block.
  void fail(Failure failure, std::string message);
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Failure failure() const { return failure_; }
  const std::string& message() const { return message_; }

  // A thread that only waits on memory counts as at work until every thread of the launch has waited for a while.
  void begin_progress() { progressing_.fetch_add(1, std::memory_order_relaxed); }
  void end_progress();
  bool stalled() const;

  // Blocks whose threads all wait on memory stay resident beside others, as many as the multiprocessors hold.
  bool admit(uint32_t blocks);
  void leave() { resident_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  const Permutation permutation_;
  std::atomic<uint64_t> next_ = 0;
  std::atomic<uint32_t> progressing_ = 0, resident_ = 0;
  std::atomic<int64_t> last_progress_;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  Failure failure_ = Failure::none;
  std::string message_;
};

constexpr int MULTIPROCESSORS = 4;

}  // namespace simt

#pragma GCC visibility pop
