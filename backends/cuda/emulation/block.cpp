#include "block.h"
#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#pragma GCC visibility push(hidden)

namespace simt {

// Registers of a thread of a kernel that has its multiprocessor to itself: ptxas gives it all that are there.
static uint16_t registers_at_start(uint32_t threads) {
  constexpr uint32_t OF_MULTIPROCESSOR = 65536, MOST = 256, UNIT = 8;
  return static_cast<uint16_t>(std::min(MOST, OF_MULTIPROCESSOR / threads / UNIT * UNIT));
}

void Block::begin(Launch& launch, uint64_t position, const std::shared_ptr<Cluster>& cluster, uint32_t rank) {
  if (launch_serial_ != launch.serial) shared_.reset();
  shared_.poison();
  kernel_ = &launch.kernel;
  launch_ = &launch;
  launch_serial_ = launch.serial;
  cluster_ = cluster;
  cluster_->blocks.push_back(this);
  rank_ = rank;
  index_ = launch.block_index(position, rank);
  threads_ = launch.threads;
  started_ = finished_ = ready_first_ = ready_count_ = arrived_ = 0;
  divergent_ = false;
  for (std::vector<Fiber*>& waiting : waiting_at_) waiting.clear();
  for (uint32_t i = 0; i * WARP < threads_; i++) warps_[i].exited = warps_[i].groups = 0;
  std::fill_n(registers_.begin(), threads_, registers_at_start(threads_));
  free_registers_ = 0;
  const uint64_t seed = launch.order.seed ^ (position * launch.kernel.cluster + rank) * 0x9e3779b97f4a7c15u;
  async_.begin(shared_.make_dynamic(kernel_->dynamic_shared), kernel_->dynamic_shared, threads_, launch.order, seed);
  tensor_memory_.begin(async_, kernel_->dynamic_shared > 0 ? threads_ : 0,
                       rank % 2 == 1 ? &cluster_->blocks[rank - 1]->tensor_memory_ : nullptr);
  if (launch.order.pattern == Order::shuffle) {
    random_ = Random(seed);
    std::iota(start_order_.begin(), start_order_.begin() + threads_, uint16_t{0});
    for (uint32_t i = threads_; i > 1; i--) std::swap(start_order_[i - 1], start_order_[random_.below(i)]);
  }
  state_ = State::waiting;
  mark_progress();
}

Block::State Block::run() {
  state_ = State::running;
  for (Fiber* fiber : polling_) make_ready(*fiber);
  polling_.clear();
  switch_context(worker_, starts_next() ? new_fiber().context : next());
  if (state_ == State::done)
    if (const SharedArray* array = shared_.overrun()) {
      launch_->fail(Failure::illegal_address,
                    place() + ": a thread wrote outside the shared array '" + array->name + "'");
      state_ = State::failed;
    }
  if (state_ == State::done)
    for (const Async::Problem& problem : {tensor_memory_.end(), async_.end(), check_registers()}) {
      if (problem.empty() || state_ == State::failed) continue;
      launch_->fail(Failure::launch_failed, place() + ": " + problem);
      state_ = State::failed;
    }
  if (state_ == State::done) cluster_->blocks[rank_] = nullptr;
  if (progressing_) launch_->end_progress();
  progressing_ = false;
  return state_;
}

void Block::abandon() {
  for (uint32_t i = 0; i < threads_; i++)
    if (live_[i]) stacks_.abandon(*std::exchange(live_[i], nullptr));
  polling_.clear();
}

void Block::mark_progress() {
  if (progressing_) return;
  launch_->begin_progress();
  progressing_ = true;
}

// Threads that can go on run before others start, which keeps few stacks in use; a shuffle mixes both.
bool Block::starts_next() {
  if (started_ == threads_) return false;
  return ready_count_ == 0 || (launch_->order.pattern == Order::shuffle && random_.below(2) == 0);
}

Fiber& Block::new_fiber() {
  Fiber& fiber = stacks_.take(&Block::thread_entry);
  fiber.index = {0, 0, 0};
  fiber.block_index = {index_.x, index_.y, index_.z};
  fiber.block_dim = {threads_, 1, 1};
  fiber.grid_dim = launch_->grid;
  fiber.block = this;
  return fiber;
}

void Block::thread_entry() {
  Fiber& self = static_cast<Fiber&>(this_thread());
  self.block->run_threads(self);
}

void Block::run_threads(Fiber& self) {
  do {
    self.id = self.index.x = started_thread(started_++);
    live_[self.id] = &self;
    kernel_->run(launch_->parameters);
    finish(self);
  } while (starts_next());
  stacks_.give_back(self);
  switch_context(self.context, next());
  __builtin_unreachable();
}

void Block::finish(Fiber& self) {
  mark_progress();
  live_[self.id] = nullptr;
  warps_[self.id / WARP].exited |= 1u << self.id % WARP;
  finished_++;
}

void Block::wait(Fiber& self) {
  if (starts_next()) return switch_context(self.context, new_fiber().context);
  // The thread itself may be the next.
  self.context = nullptr;
  if (const Context to = next()) switch_context(self.context, to);
}

// Where to go on when no thread is to be started.
Context Block::next() {
  if (ready_count_ > 0) return take_ready().context;
  if (finished_ == threads_)
    state_ = State::done;
  else if (!polling_.empty())
    state_ = State::waiting;
  else
    return diagnose();
  return worker_;
}

void Block::make_ready(Fiber& fiber) { ready_[(ready_first_ + ready_count_++) % MAX_THREADS] = &fiber; }

Fiber& Block::take_ready() {
  Fiber*& first = ready_[ready_first_];
  if (launch_->order.pattern == Order::shuffle)
    std::swap(first, ready_[(ready_first_ + random_.below(ready_count_)) % MAX_THREADS]);
  ready_first_ = (ready_first_ + 1) % MAX_THREADS;
  ready_count_--;
  return *first;
}

static bool same_place(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

uint32_t Block::barrier(Fiber& self, Collective collective, bool predicate, const Site& site) {
  self.collective = collective;
  self.site = site;
  if (arrived_ == 0) {
    barrier_ = collective;
    barrier_site_ = site;
    true_count_ = 0;
  } else if (collective != barrier_ || !same_place(site, barrier_site_)) {
    divergent_ = true;
  }
  arrived_++;
  true_count_ += predicate;
  if (arrived_ == threads_ && !divergent_) release_barrier();
  wait(self);
  // The next barrier's result comes only after every thread has taken this one.
  return barrier_result_;
}

void Block::release_barrier() {
  mark_progress();
  barrier_result_ = barrier_ == Collective::barrier_and  ? true_count_ == threads_
                          : barrier_ == Collective::barrier_or ? true_count_ > 0
                                                               : true_count_;
  for (uint32_t i = 0; i < threads_; i++) make_ready(*live_[started_thread(i)]);
  arrived_ = 0;
}

void Block::barrier_sync(Fiber& self, uint32_t number, uint32_t threads, const Site& site) {
  if (number < 1 || number >= BARRIERS) fail(self, "there are barriers 1 to 15, not " + std::to_string(number), site);
  if (threads % WARP != 0 || threads == 0 || threads > threads_)
    fail(self, std::to_string(threads) + " threads are no warps of the block", site);
  std::vector<Fiber*>& waiting = waiting_at_[number];
  if (!waiting.empty() && threads != threads_of_[number])
    fail(self, "barrier " + std::to_string(number) + " is waited at by " + std::to_string(threads_of_[number]) +
                 " threads and by " + std::to_string(threads), site);
  self.collective = Collective::barrier_of_some;
  self.site = site;
  threads_of_[number] = threads;
  waiting.push_back(&self);
  if (waiting.size() == threads) {
    mark_progress();
    if (launch_->order.pattern == Order::reverse) std::reverse(waiting.begin(), waiting.end());
    for (Fiber* fiber : waiting) make_ready(*fiber);
    waiting.clear();
  }
  wait(self);
}

uint64_t Block::warp(Fiber& self, Collective collective, uint32_t mask, uint64_t operand, uint32_t source,
                     const Site& site) {
  self.collective = collective;
  self.site = site;
  self.operand = operand;
  self.source_lane = source;
  Warp& warp = warps_[self.id / WARP];
  const uint32_t first = self.id / WARP * WARP, lane = self.id % WARP;
  // Lanes beyond the block's end were never there, and a GPU does not wait for them.
  if (threads_ - first < WARP) mask &= (1u << (threads_ - first)) - 1;
  self.mask = mask;
  if ((mask >> lane & 1) == 0) fail(self, Failure::launch_failed, "the lane mask does not contain the calling lane");
  if (mask & warp.exited)
    fail(self, Failure::launch_failed, "the lane mask names lanes that have exited; " + waits());

  uint32_t g = 0;
  while (g < warp.groups && warp.group[g].mask != mask) g++;
  if (g == warp.groups) warp.group[warp.groups++] = {mask, 0, collective};
  Group& group = warp.group[g];
  if (group.collective != collective)
    fail(self, Failure::launch_failed, "lanes call different warp functions under one mask; " + waits());
  group.arrived |= 1u << lane;
  if (group.arrived == mask) {
    const Group all = group;
    group = warp.group[--warp.groups];
    complete(self, first, all);
  }
  wait(self);
  return self.result;
}

template <class Combine>
static uint64_t reduce(Fiber* const* lanes, uint32_t mask, Combine combine) {
  uint32_t result = static_cast<uint32_t>(lanes[__builtin_ctz(mask)]->operand);
  for (uint32_t rest = mask & (mask - 1); rest; rest &= rest - 1)
    result = combine(result, static_cast<uint32_t>(lanes[__builtin_ctz(rest)]->operand));
  return result;
}

static uint64_t same_operand(Fiber* const* lanes, uint32_t mask, uint64_t operand) {
  uint32_t same = 0;
  for (uint32_t rest = mask; rest; rest &= rest - 1)
    if (lanes[__builtin_ctz(rest)]->operand == operand) same |= rest & -rest;
  return same;
}

static int32_t as_signed(uint32_t x) { return static_cast<int32_t>(x); }

// The result of a warp function that gives every lane the same.
static uint64_t combine(Fiber* const* lanes, uint32_t mask, Collective collective) {
  switch (collective) {
    case Collective::ballot:
      return same_operand(lanes, mask, 1);
    case Collective::any:
      return same_operand(lanes, mask, 1) != 0;
    case Collective::all:
      return same_operand(lanes, mask, 1) == mask;
    case Collective::match_all:
      return same_operand(lanes, mask, lanes[__builtin_ctz(mask)]->operand) == mask ? mask : 0;
    case Collective::reduce_add:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return a + b; });
    case Collective::reduce_min:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return std::min(a, b); });
    case Collective::reduce_min_signed:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return as_signed(a) < as_signed(b) ? a : b; });
    case Collective::reduce_max:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return std::max(a, b); });
    case Collective::reduce_max_signed:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return as_signed(a) > as_signed(b) ? a : b; });
    case Collective::reduce_and:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return a & b; });
    case Collective::reduce_or:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return a | b; });
    case Collective::reduce_xor:
      return reduce(lanes, mask, [](uint32_t a, uint32_t b) { return a ^ b; });
    default:
      return 0;
  }
}

// Computes every lane's result before any lane goes on: the first to go on may already overwrite its operand.
void Block::complete(Fiber& self, uint32_t first, const Group& group) {
  mark_progress();
  Fiber* const* lanes = &live_[first];
  const uint64_t common = combine(lanes, group.mask, group.collective);
  const bool reverse = launch_->order.pattern == Order::reverse;
  for (uint32_t i = 0; i < WARP; i++) {
    const uint32_t lane = reverse ? WARP - 1 - i : i;
    if ((group.mask >> lane & 1) == 0) continue;
    Fiber& fiber = *lanes[lane];
    if (group.collective == Collective::shuffle) {
      if ((group.mask >> fiber.source_lane & 1) == 0)
        fail(self, Failure::launch_failed,
             "lane " + std::to_string(lane) + " shuffles from lane " + std::to_string(fiber.source_lane) +
               ", which takes no part; " + waits());
      fiber.result = lanes[fiber.source_lane]->operand;
    } else {
      fiber.result =
        group.collective == Collective::match_any ? same_operand(lanes, group.mask, fiber.operand) : common;
    }
    make_ready(fiber);
  }
}

void* Block::shared(Fiber& self, const SharedArray& array) {
  void* data = shared_.find(array);
  if (!data)
    fail(self, Failure::launch_failed, std::string("the shared arrays, with '") + array.name +
                                         "', exceed the 48 KB of static shared memory");
  return data;
}

void Block::yield(Fiber& self, const Site& site) {
  self.collective = Collective::yield;
  self.site = site;
  polling_.push_back(&self);
  wait(self);
}

void Block::fail(Fiber& self, Failure failure, const std::string& what) {
  launch_->fail(failure, place() + ", thread " + std::to_string(self.id) + ": " + what);
  interrupt(self);
}

void Block::fail(Fiber& self, const std::string& what, const Site& site) {
  const std::string file = site.file_name();
  fail(self, Failure::launch_failed,
       what + " (" + file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line()) + ")");
}

void Block::interrupt(Fiber& self) {
  state_ = State::failed;
  switch_context(self.context, worker_);
  __builtin_unreachable();
}

static bool is_barrier(Collective collective) {
  return collective >= Collective::barrier && collective <= Collective::barrier_of_some;
}

// Threads are left, and none can go on.
Context Block::diagnose() {
  bool at_barrier = false;
  for (uint32_t i = 0; i < threads_; i++)
    at_barrier |= live_[i] && is_barrier(live_[i]->collective);
  const char* what = at_barrier ? ": divergent barrier: " : ": warp function without all its lanes: ";
  launch_->fail(Failure::launch_failed, place() + what + waits());
  state_ = State::failed;
  return worker_;
}

}  // namespace simt
