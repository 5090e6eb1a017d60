#include "launch.h"
#include <algorithm>

#pragma GCC visibility push(hidden)

namespace simt {

using Clock = std::chrono::steady_clock;

// Longer than the operating system keeps a runnable worker waiting.
constexpr auto STALL_LIMIT = std::chrono::seconds(2);

static int64_t now() { return Clock::now().time_since_epoch().count(); }

static uint64_t next_serial() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

Launch::Launch(const Kernel& kernel, CodeRange code, void* const* parameters, dim3 grid, uint32_t threads)
    : serial(next_serial()),
      kernel(kernel),
      code(code),
      parameters(parameters),
      grid(grid),
      threads(threads),
      order(thread_order()),
      clusters(uint64_t{grid.x} * grid.y * grid.z / kernel.cluster),
      permutation_(order, clusters),
      last_progress_(now()) {}

uint64_t Launch::take(uint64_t workers, uint64_t& position) {
  const uint64_t taken = next_.load(std::memory_order_relaxed);
  if (taken >= clusters) return 0;
  const uint64_t want = std::clamp<uint64_t>((clusters - taken) / (4 * workers), 1, 64);
  position = next_.fetch_add(want, std::memory_order_relaxed);
  return position >= clusters ? 0 : std::min(want, clusters - position);
}

dim3 Launch::block_index(uint64_t position, uint32_t rank) const {
  const uint64_t i = permutation_(position) * kernel.cluster + rank;
  return {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
          static_cast<unsigned>(i / grid.x / grid.y)};
}

void Launch::fail(Failure failure, std::string message) {
  const std::lock_guard lock(mutex_);
  if (failure_ != Failure::none) return;
  failure_ = failure;
  message_ = std::move(message);
  failed_.store(true, std::memory_order_release);
}

void Launch::end_progress() {
  last_progress_.store(now(), std::memory_order_relaxed);
  progressing_.fetch_sub(1, std::memory_order_relaxed);
}

bool Launch::stalled() const {
  return progressing_.load(std::memory_order_relaxed) == 0 &&
         now() - last_progress_.load(std::memory_order_relaxed) >
           std::chrono::duration_cast<Clock::duration>(STALL_LIMIT).count();
}

bool Launch::admit(uint32_t blocks) {
  const uint32_t limit = MULTIPROCESSORS * std::min(32u, 2048 / std::max(threads, 1u));
  uint32_t resident = resident_.load(std::memory_order_relaxed);
  while (resident + blocks <= limit)
    if (resident_.compare_exchange_weak(resident, resident + blocks, std::memory_order_relaxed)) return true;
  return false;
}

}  // namespace simt
