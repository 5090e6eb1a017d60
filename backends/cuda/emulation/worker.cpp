#include "worker.h"
#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#pragma GCC visibility push(hidden)

namespace simt {

// Longer than it takes to wake a thread.
constexpr auto LONG = std::chrono::microseconds(30);

std::string (*describe_address)(uintptr_t address) = [](uintptr_t) { return std::string(); };

static uint64_t worker_count() {
  static const uint64_t count = [] {
    const char* text = std::getenv("EXACTMAP_EMULATED_THREADS");
    const long asked = text ? std::strtol(text, nullptr, 10) : 0;
    return asked > 0 ? static_cast<uint64_t>(asked) : std::max(1u, std::thread::hardware_concurrency());
  }();
  return count;
}

std::unique_ptr<Block> Worker::take_block() {
  if (idle_.empty()) return std::make_unique<Block>(stacks_);
  std::unique_ptr<Block> block = std::move(idle_.back());
  idle_.pop_back();
  return block;
}

// Runs a block as far as it goes; false ends the launch.
bool Worker::run(Launch& launch, std::unique_ptr<Block> block) {
  ticks_ = 0;
  current_ = &launch;
  const Block::State state = block->run();
  current_ = nullptr;
  if (state == Block::State::waiting) {
    waiting_.push_back(std::move(block));
    return true;
  }
  if (signal_) fail_on_signal(launch, *block);
  launch.leave();
  if (state == Block::State::failed) block->abandon();
  idle_.push_back(std::move(block));
  return state == Block::State::done;
}

bool Worker::run_cluster(Launch& launch, uint64_t position) {
  const auto cluster = std::make_shared<Cluster>();
  std::vector<std::unique_ptr<Block>> blocks;
  for (uint32_t rank = 0; rank < launch.kernel.cluster; rank++) {
    blocks.push_back(take_block());
    blocks.back()->begin(launch, position, cluster, rank);
  }
  if (launch.order.pattern == Order::reverse) std::reverse(blocks.begin(), blocks.end());
  bool good = true;
  for (auto& block : blocks)
    if (good)
      good = run(launch, std::move(block));
    else
      waiting_.push_back(std::move(block));
  return good;
}

// Goes on with every block that waits on memory; false ends the launch.
bool Worker::run_waiting(Launch& launch) {
  std::vector<std::unique_ptr<Block>> blocks = std::move(waiting_);
  waiting_.clear();
  bool good = true;
  for (auto& block : blocks)
    if (good)
      good = run(launch, std::move(block));
    else
      waiting_.push_back(std::move(block));
  if (good && !waiting_.empty()) {
    const Block& first = *waiting_.front();
    if (launch.stalled())
      launch.fail(Failure::launch_failed,
                  first.place() + ": deadlock: every thread of the launch waits; " + first.waits());
    std::this_thread::yield();
  }
  return good;
}

void Worker::work(Launch& launch, void (*on_long)(Launch&)) {
  const auto start = std::chrono::steady_clock::now();
  uint64_t position = 0, left = 0;
  bool good = true;
  set_ticking(true);
  while (good && !launch.failed()) {
    if (left == 0) left = launch.take(worker_count(), position);
    if (left == 0 && waiting_.empty()) break;
    if (left > 0 && launch.admit(launch.kernel.cluster)) {
      left--;
      good = run_cluster(launch, position++);
    } else if (!waiting_.empty()) {
      good = run_waiting(launch);
    } else {
      std::this_thread::yield();
    }
    if (on_long && std::chrono::steady_clock::now() - start > LONG) {
      on_long(launch);
      on_long = nullptr;
    }
  }
  set_ticking(false);
  for (auto& block : waiting_) {
    launch.leave();
    block->abandon();
    idle_.push_back(std::move(block));
  }
  waiting_.clear();
}

// Threads that help with launches of every stream. Never destroyed: they may be at work when the process ends.
class Helpers {
 public:
  static Helpers& get() {
    static Helpers& helpers = *new Helpers();
    return helpers;
  }

  void offer(Launch& launch) {
    const std::lock_guard lock(mutex_);
    while (threads_ + 1 < worker_count()) {
      std::thread(&Helpers::help, this).detach();
      threads_++;
    }
    offers_.push_back({&launch, 0});
    changed_.notify_all();
  }

  // Returns once no helper touches the launch.
  void withdraw(Launch& launch) {
    std::unique_lock lock(mutex_);
    const auto found = find(launch);
    if (found == offers_.end()) return;
    found->closed = true;
    changed_.wait(lock, [&] { return find(launch)->helping == 0; });
    offers_.erase(find(launch));
  }

 private:
  struct Offer {
    Launch* launch;
    uint32_t helping;
    bool closed = false;
  };

  std::vector<Offer>::iterator find(const Launch& launch) {
    return std::find_if(offers_.begin(), offers_.end(), [&](const Offer& o) { return o.launch == &launch; });
  }

  void help() {
    Worker worker;
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto open = std::find_if(offers_.begin(), offers_.end(), [](const Offer& o) {
        return !o.closed && !o.launch->exhausted() && !o.launch->failed();
      });
      if (open == offers_.end()) {
        changed_.wait(lock);
        continue;
      }
      Launch& launch = *open->launch;
      open->helping++;
      lock.unlock();
      worker.work(launch);
      lock.lock();
      find(launch)->helping--;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Offer> offers_;
  uint64_t threads_ = 0;
};

void run_launch(Launch& launch, Worker& own) {
  const bool alone = launch.clusters == 1 || worker_count() == 1;
  const auto ask_for_help = [](Launch& long_launch) {
    if (!long_launch.exhausted()) Helpers::get().offer(long_launch);
  };
  own.work(launch, alone ? nullptr : +ask_for_help);
  if (!alone) Helpers::get().withdraw(launch);
}

static Fiber& fiber_of(Thread& thread) { return static_cast<Fiber&>(thread); }
static Async& async_of(Thread& thread) { return fiber_of(thread).block->async(); }
static void checked(Thread& thread, const Async::Problem& problem, const Site& site) {
  fiber_of(thread).block->check(fiber_of(thread), problem, site);
}
static TensorMemory& tensor_memory_of(Thread& thread) { return fiber_of(thread).block->tensor_memory(); }
static void sync_warp(Thread& thread, const Site& site) {
  fiber_of(thread).block->warp(fiber_of(thread), Collective::syncwarp, 0xffffffffu, 0, 0, site);
}
// What a warp does as one: its first lane, between barriers.
template <class Action>
static void by_warp(Thread& thread, const Site& site, Action action) {
  sync_warp(thread, site);
  if (fiber_of(thread).id % WARP == 0) checked(thread, action(tensor_memory_of(thread)), site);
  sync_warp(thread, site);
}

const Runtime emulated_runtime{
  ABI_VERSION,
  [](Thread& thread, Collective collective, bool predicate, Site site) {
    return fiber_of(thread).block->barrier(fiber_of(thread), collective, predicate, site);
  },
  [](Thread& thread, uint32_t number, uint32_t threads, Site site) {
    fiber_of(thread).block->barrier_sync(fiber_of(thread), number, threads, site);
  },
  [](Thread& thread, Collective collective, uint32_t mask, uint64_t operand, uint32_t source, Site site) {
    return fiber_of(thread).block->warp(fiber_of(thread), collective, mask, operand, source, site);
  },
  [](Thread& thread, const SharedArray& array) {
    return fiber_of(thread).block->shared(fiber_of(thread), array);
  },
  [](Thread& thread, Site site) { fiber_of(thread).block->yield(fiber_of(thread), site); },
  [](Thread& thread) { fiber_of(thread).block->resume(); },
  [](Thread& thread, const char* message, Site site) { fiber_of(thread).block->fail(fiber_of(thread), message, site); },

  [](Thread& thread, size_t bytes, Site site) -> void* {
    Block& block = *fiber_of(thread).block;
    if (bytes > block.async().bytes())
      block.fail(fiber_of(thread), "the kernel declares " + std::to_string(block.async().bytes()) +
                                     " bytes of dynamic shared memory and uses " + std::to_string(bytes), site);
    return block.async().memory();
  },
  [](Thread& thread, const void* pointer, Site site) {
    uint32_t address = 0;
    checked(thread, async_of(thread).address(pointer, address), site);
    return address;
  },
  [](Thread& thread) { async_of(thread).publish(); },
  [](Thread& thread, const void* barrier, uint32_t count, Site site) {
    checked(thread, async_of(thread).init(barrier, count), site);
  },
  [](Thread& thread, const void* barrier, Site site) {
    checked(thread, async_of(thread).invalidate(barrier), site);
  },
  [](Thread& thread) { async_of(thread).fence_init(); },
  [](Thread& thread, const void* barrier, uint32_t rank, uint32_t bytes, Site site) {
    fiber_of(thread).block->mbarrier_arrive(fiber_of(thread), barrier, rank, bytes, site);
  },
  [](Thread& thread, const void* barrier, uint32_t parity, Site site) {
    bool over = false;
    checked(thread, async_of(thread).test(barrier, parity, over), site);
    if (!over) checked(thread, tensor_memory_of(thread).complete(barrier), site);
    return over;
  },
  [](Thread& thread, void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier, uint32_t ranks,
     Site site) {
    fiber_of(thread).block->tma_load(fiber_of(thread), to, map, column, row, barrier, ranks, site);
  },
  [](Thread& thread, void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier, Site site) {
    fiber_of(thread).block->tma_load_pair(fiber_of(thread), to, map, column, row, barrier, site);
  },
  [](Thread& thread, const TensorMap& map, int32_t column, int32_t row, const void* from, bool add, Site site) {
    checked(thread, async_of(thread).store(fiber_of(thread).id, map, column, row, from, add), site);
  },
  [](Thread& thread) { async_of(thread).commit_stores(fiber_of(thread).id); },
  [](Thread& thread, uint32_t pending, bool read, Site site) {
    checked(thread, async_of(thread).wait_for_stores(fiber_of(thread).id, pending, read), site);
  },
  [](Thread& thread) { return fiber_of(thread).block->cluster_rank(); },
  [](Thread& thread, Site site) { fiber_of(thread).block->cluster_sync(fiber_of(thread), site); },
  [](Thread& thread) { async_of(thread).fence(fiber_of(thread).id); },
  [](Thread& thread, float* sums, uint32_t count, const Wgmma& operands, Site site) {
    checked(thread, async_of(thread).multiply(fiber_of(thread).id, sums, count, operands), site);
  },
  [](Thread& thread) { async_of(thread).commit(fiber_of(thread).id); },
  [](Thread& thread, uint32_t pending, Site site) {
    fiber_of(thread).block->wgmma_wait(fiber_of(thread), pending, site);
  },
  [](Thread& thread, uint32_t count, Site site) {
    fiber_of(thread).block->give_registers(fiber_of(thread), count, site);
  },
  [](Thread& thread, uint32_t count, Site site) {
    fiber_of(thread).block->take_registers(fiber_of(thread), count, site);
  },

  [](Thread& thread, uint32_t* address, uint32_t columns, uint32_t ctas, Site site) {
    if (ctas > 1 && !fiber_of(thread).block->cluster_met())
      checked(thread, "a pair takes columns ahead of a cluster_sync: its other block may not have started", site);
    by_warp(thread, site, [&](TensorMemory& memory) { return memory.allocate(columns, ctas, *address); });
  },
  [](Thread& thread, uint32_t ctas, Site site) {
    by_warp(thread, site, [&](TensorMemory& memory) { return memory.relinquish(ctas); });
  },
  [](Thread& thread, uint32_t address, uint32_t columns, uint32_t ctas, Site site) {
    by_warp(thread, site, [&](TensorMemory& memory) { return memory.release(address, columns, ctas); });
  },
  [](Thread& thread, float* to, uint32_t count, uint32_t from, Site site) {
    checked(thread, tensor_memory_of(thread).load(fiber_of(thread).id, to, count, from), site);
  },
  [](Thread& thread, Site site) {
    sync_warp(thread, site);
    tensor_memory_of(thread).wait(fiber_of(thread).id);
  },
  [](Thread& thread, uint32_t to, const uint32_t* from, uint32_t count, Site site) {
    checked(thread, tensor_memory_of(thread).store(fiber_of(thread).id, to, from, count), site);
  },
  [](Thread& thread, Site site) {
    sync_warp(thread, site);
    tensor_memory_of(thread).wait_stores(fiber_of(thread).id);
  },
  [](Thread& thread, bool after) {
    TensorMemory& memory = tensor_memory_of(thread);
    after ? memory.fence_after(fiber_of(thread).id) : memory.fence_before(fiber_of(thread).id);
  },
  [](Thread& thread, const Tcgen05Product& product, Site site) {
    checked(thread, tensor_memory_of(thread).multiply(fiber_of(thread).id, product), site);
  },
  [](Thread& thread, uint32_t to, uint64_t words, uint32_t ctas, Site site) {
    checked(thread, tensor_memory_of(thread).copy_words(fiber_of(thread).id, to, words, ctas), site);
  },
  [](Thread& thread, const void* barrier, uint32_t ctas, Site site) {
    checked(thread, tensor_memory_of(thread).commit(fiber_of(thread).id, barrier, ctas), site);
  },
};

}  // namespace simt
