// Who has which columns of tensor memory, and what threads load from them.
#include "tensor_memory.h"
#include <algorithm>

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t POISON = 0xffffffffu, WARP_LANES = 32, LEAST_COLUMNS = 32;

static std::string text(uint64_t number) { return std::to_string(number); }
// The first lane that a thread's warp reaches.
static uint32_t first_lane(uint32_t thread) { return thread / WARP_LANES % 4 * WARP_LANES; }

void TensorMemory::begin(Async& async, uint32_t threads, TensorMemory* first) {
  async_ = &async;
  other_ = first;
  second_ = first != nullptr;
  if (first) first->other_ = this;
  ctas_ = 0;
  allocated_.clear();
  relinquished_ = false;
  clock_ = 0;
  for (auto* times : {&done_, &read_, &told_, &told_stored_}) times->fill(0);
  operations_.clear();
  threads_.assign(threads, {});
}

std::string TensorMemory::end() {
  if (other_) {
    other_->clock_ = clock_ = std::max(other_->clock_, clock_);
    other_->other_ = nullptr;
  }
  for (uint32_t i = 0; i < threads_.size(); i++) {
    if (!threads_[i].loads.empty()) return "thread " + text(i) + " ended without a tmem_wait for its tmem_load";
    if (!threads_[i].stores.empty())
      return "thread " + text(i) + " ended without a tmem_wait_stores for its tmem_store";
  }
  if (!operations_.empty())
    return "the block ended while " + text(operations_.size()) +
           " tcgen05 operations were under way: nobody waited for their commit";
  if (!allocated_.empty())
    return "the block ended without freeing " + text(allocated_[0].count) + " columns of tensor memory";
  return "";
}

std::string TensorMemory::use(uint32_t ctas) {
  if (ctas == 2 && ctas_ == 0 && !other_) return "cta_group::2 in a block that has no other beside it in its cluster";
  if (ctas_ != 0 && ctas_ != ctas) return "cta_group::1 and cta_group::2 in one kernel";
  ctas_ = ctas;
  return "";
}

std::string TensorMemory::allocate(uint32_t columns, uint32_t ctas, uint32_t& address) {
  if (const Problem problem = use(ctas); !problem.empty()) return problem;
  if (columns < LEAST_COLUMNS || columns > COLUMNS || (columns & (columns - 1)) != 0)
    return "columns of tensor memory are taken in powers of two from 32 to 512, not " + text(columns);
  if (relinquished_) return "tmem_alloc after tmem_relinquish";
  Columns wanted{0, columns};
  const auto taken = [&](const Columns& range) { return range.overlap(wanted); };
  while (std::any_of(allocated_.begin(), allocated_.end(), taken)) wanted.first += columns;
  if (wanted.first + columns > COLUMNS)
    return "tensor memory has no " + text(columns) + " columns left: this would wait for ever";
  // What an earlier block or kernel left there is poison to this one.
  if (!cells_) cells_ = std::make_unique<Cells>();
  for (auto& lane : *cells_) std::fill_n(lane.begin() + wanted.first, columns, POISON);
  allocated_.push_back(wanted);
  address = wanted.first;
  return "";
}

std::string TensorMemory::relinquish(uint32_t ctas) {
  relinquished_ = true;
  return use(ctas);
}

std::string TensorMemory::release(uint32_t address, uint32_t columns, uint32_t ctas) {
  if (const Problem problem = use(ctas); !problem.empty()) return problem;
  const auto found = std::find_if(allocated_.begin(), allocated_.end(), [&](const Columns& range) {
    return range.first == address && range.count == columns;
  });
  if (found == allocated_.end())
    return "tmem_free of " + text(columns) + " columns at " + text(address) + ", which were not taken as such";
  for (const Operation& operation : operations_)
    if (operation.kind != Kind::commit && operation.writes.overlap(*found))
      return "tmem_free of columns that a tcgen05 operation under way writes";
  allocated_.erase(found);
  return "";
}

std::string TensorMemory::check_range(uint32_t address, uint32_t count, Columns& columns) const {
  columns = {address & 0xffffu, count};
  for (const Columns& range : allocated_)
    if (columns.first >= range.first && columns.first + count <= range.first + range.count) return "";
  return "columns " + text(columns.first) + " to " + text(columns.first + count - 1) +
         " of tensor memory were not taken";
}

std::string TensorMemory::check_written(uint32_t thread, const Columns& columns) const {
  for (const Operation& operation : operations_)
    if (operation.kind != Kind::commit && operation.writes.overlap(columns))
      return "tmem_load of columns that a tcgen05 operation under way writes: nobody has waited for its commit";
  for (uint32_t c = columns.first; c < columns.first + columns.count; c++)
    if (done_[c] > threads_[thread].after)
      return "tmem_load without a tcgen05_fence_after behind the wait for the products' commit";
  return "";
}

std::string TensorMemory::check_own(uint32_t thread, uint32_t address, uint32_t count, Columns& columns) const {
  const uint32_t lane = address >> 16, own = first_lane(thread);
  if (lane != own)
    return "the warp reaches lanes " + text(own) + " to " + text(own + WARP_LANES - 1) + " only, not from lane " +
           text(lane) + " on";
  return check_range(address, count, columns);
}

std::string TensorMemory::load(uint32_t thread, float* to, uint32_t count, uint32_t address) {
  ThreadState& state = threads_[thread];
  Columns columns{};
  std::string wrong = check_own(thread, address, count, columns);
  if (wrong.empty()) wrong = check_written(thread, columns);
  if (!wrong.empty()) return wrong;
  if (std::any_of(state.stores.begin(), state.stores.end(), [&](const Store& s) { return s.columns.overlap(columns); }))
    return "tmem_load of columns that the thread stores and has not waited for";
  std::fill_n(reinterpret_cast<uint32_t*>(to), count, POISON);
  state.loads.push_back({to, first_lane(thread) + thread % WARP_LANES, columns});
  state.loaded.push_back(columns);
  return "";
}

std::string TensorMemory::store(uint32_t thread, uint32_t address, const uint32_t* from, uint32_t count) {
  ThreadState& state = threads_[thread];
  Columns columns{};
  const std::string wrong = check_own(thread, address, count, columns);
  if (!wrong.empty()) return wrong;
  const auto meets = [&](const Columns& others) { return others.overlap(columns); };
  for (const Operation& operation : operations_)
    if (operation.kind != Kind::commit &&
        (meets(operation.writes) || std::any_of(operation.columns.begin(), operation.columns.end(), meets)))
      return "tmem_store to columns that a tcgen05 operation under way uses: nobody has waited for its commit";
  for (uint32_t c = columns.first; c < columns.first + count; c++)
    if (std::max(done_[c], read_[c]) > state.after)
      return "tmem_store without a tcgen05_fence_after behind the wait for the products' commit";
  if (std::any_of(state.loads.begin(), state.loads.end(), [&](const Load& load) { return meets(load.columns); }))
    return "tmem_store to columns that the thread loads and has not waited for";
  const uint32_t lane = first_lane(thread) + thread % WARP_LANES;
  std::fill_n((*cells_)[lane].begin() + columns.first, count, POISON);
  state.stores.push_back({{from, from + count}, lane, columns});
  state.stored.push_back(columns);
  return "";
}

void TensorMemory::wait_stores(uint32_t thread) {
  for (const Store& store : threads_[thread].stores)
    std::copy(store.words.begin(), store.words.end(), (*cells_)[store.lane].begin() + store.columns.first);
  threads_[thread].stores.clear();
}

void TensorMemory::wait(uint32_t thread) {
  for (const Load& load : threads_[thread].loads) {
    const auto& lane = (*cells_)[load.lane];
    std::copy_n(lane.begin() + load.columns.first, load.columns.count, reinterpret_cast<uint32_t*>(load.to));
  }
  threads_[thread].loads.clear();
}

void TensorMemory::fence_before(uint32_t thread) {
  const uint64_t now = tick();
  ThreadState& state = threads_[thread];
  for (const Columns& columns : state.loaded) std::fill_n(told_.begin() + columns.first, columns.count, now);
  for (const Columns& columns : state.stored)
    for (auto* times : {&told_, &told_stored_}) std::fill_n(times->begin() + columns.first, columns.count, now);
  state.loaded.clear();
  state.stored.clear();
}

void TensorMemory::fence_after(uint32_t thread) { threads_[thread].after = tick(); }

}  // namespace simt

#pragma GCC visibility pop
