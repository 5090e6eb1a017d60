#include "async.h"
#include <algorithm>
#include <cstring>

#pragma GCC visibility push(hidden)

namespace simt {

constexpr unsigned char GARBAGE = 0xff;
constexpr uint32_t MOST_ARRIVALS = (1u << 20) - 1, MOST_BYTES = (1u << 20) - 1;

static std::string text(uint64_t number) { return std::to_string(number); }

void Async::begin(unsigned char* memory, uint32_t bytes, uint32_t threads, const Order& order, uint64_t seed) {
  memory_ = memory;
  bytes_ = bytes;
  pattern_ = order.pattern;
  random_ = Random(seed);
  barriers_.clear();
  copies_.clear();
  coming_ = 0;
  rows_.assign((bytes + ROW - 1) / ROW, Row::nothing);
  published_.assign(memory, memory + bytes);
  threads_.assign(bytes > 0 ? threads : 0, {});
  products_.assign(bytes > 0 ? threads / WARPGROUP : 0, {});
}

std::string Async::end() {
  if (coming_ > 0) return "the block ended while " + text(coming_) + " copies to its shared memory were under way";
  for (uint32_t i = 0; i < threads_.size(); i++)
    if (threads_[i].taken != threads_[i].issued) return "thread " + text(i) + " ended without waiting for its wgmma";
  for (uint32_t i = 0; i < threads_.size(); i++) {
    for (const Store& store : threads_[i].stores) {
      if (!store.read) return "the block ended while thread " + text(i) + " was storing boxes of its shared memory";
      land(store);
    }
    threads_[i].stores.clear();
  }
  return "";
}

std::string Async::address(const void* pointer, uint32_t& address) const {
  const auto* byte = static_cast<const unsigned char*>(pointer);
  if (byte < memory_ || byte >= memory_ + bytes_) return "the address is not in the dynamic shared memory";
  address = FIRST_ADDRESS + static_cast<uint32_t>(byte - memory_);
  return "";
}

std::string Async::same_place(const Async& other, const void* pointer, const void*& there) const {
  uint32_t at = 0;
  if (const Problem problem = address(pointer, at); !problem.empty()) return problem;
  there = other.memory_ + (at - FIRST_ADDRESS);
  return "";
}

Async::Barrier* Async::find(const void* at) {
  for (Barrier& barrier : barriers_)
    if (barrier.at == at) return &barrier;
  return nullptr;
}

std::string Async::init(const void* at, uint32_t count) {
  if (reinterpret_cast<uintptr_t>(at) % 8 != 0) return "the mbarrier is not at a multiple of 8 bytes";
  if (count < 1 || count > MOST_ARRIVALS) return "an mbarrier counts 1 to 1048575 arrivals, not " + text(count);
  if (find(at)) return "the mbarrier is initialised already";
  barriers_.push_back({at, count, count, 0, 0, false});
  return "";
}

std::string Async::invalidate(const void* at) {
  if (!find(at)) return "the mbarrier is not initialised";
  for (const Copy& copy : copies_)
    if (copy.barrier == at) return "the mbarrier has copies under way";
  std::erase_if(barriers_, [&](const Barrier& barrier) { return barrier.at == at; });
  return "";
}

void Async::fence_init() {
  for (Barrier& barrier : barriers_) barrier.visible = true;
}

void Async::advance(Barrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.phase++;
  barrier.pending = barrier.count;
}

std::string Async::arrive(const void* at, uint32_t bytes) {
  Barrier* barrier = find(at);
  if (!barrier) return "the mbarrier is not initialised";
  if (barrier->pending == 0) return "more threads arrive than the " + text(barrier->count) + " the mbarrier counts";
  barrier->bytes += bytes;
  if (barrier->bytes > MOST_BYTES) return "an mbarrier counts up to 1048575 bytes, not " + text(barrier->bytes);
  barrier->pending--;
  advance(*barrier);
  return "";
}

std::string Async::test(const void* at, uint32_t parity, bool& over) {
  Barrier* barrier = find(at);
  if (!barrier) return "the mbarrier is not initialised";
  if (parity > 1) return "a parity is 0 or 1, not " + text(parity);
  over = (barrier->phase & 1) != parity;
  if (over) return "";
  std::vector<size_t> awaited;
  for (size_t i = 0; i < copies_.size(); i++)
    if (copies_[i].barrier == at) awaited.push_back(i);
  if (awaited.empty()) return "";
  land(pattern_ == Order::forward   ? awaited.front()
       : pattern_ == Order::reverse ? awaited.back()
                                    : awaited[random_.below(awaited.size())]);
  over = (barrier->phase & 1) != parity;
  return "";
}

void Async::publish() {
  for (uint32_t i = 0; i < rows_.size(); i++) {
    const uint32_t at = i * ROW, count = std::min(ROW, bytes_ - at);
    if (rows_[i] == Row::coming || std::memcmp(&published_[at], memory_ + at, count) == 0) continue;
    std::memcpy(&published_[at], memory_ + at, count);
    rows_[i] = Row::bytes;
  }
}

std::string Async::check_row(uint32_t at) const {
  if (rows_[at / ROW] == Row::coming) return "is still being copied: no thread has waited for its mbarrier";
  if (std::memcmp(&published_[at], memory_ + at, ROW) != 0) return "holds stores without a fence_proxy_async since";
  return rows_[at / ROW] == Row::nothing ? "was not written" : "";
}

std::string Async::read(uint32_t address, void* to, uint32_t bytes) const {
  if (address < FIRST_ADDRESS || address - FIRST_ADDRESS + bytes > bytes_) return "leaves the dynamic shared memory";
  const uint32_t at = address - FIRST_ADDRESS;
  if (const Problem problem = check_row(at / ROW * ROW); !problem.empty()) return problem;
  std::memcpy(to, &published_[at], bytes);
  return "";
}

std::string Async::load(void* to, const TensorMap& map, int32_t column, int32_t row, const void* at, Async& signals) {
  const bool plain = map.magic == TensorMap::BYTES;
  if (!plain && map.magic != TensorMap::MAGIC) return "the tensor map was not made by cuTensorMapEncodeTiled";
  const Barrier* barrier = signals.find(at);
  if (!barrier) return "the mbarrier is not initialised";
  if (!barrier->visible) return "the mbarrier was initialised without mbarrier_fence_init";
  Copy copy{this, 0, map, column, row, at};
  const auto* first = static_cast<const unsigned char*>(to);
  if (first < memory_ || first + copy.bytes() > memory_ + bytes_)
    return "the copy of " + text(copy.bytes()) + " bytes leaves the dynamic shared memory";
  copy.to = static_cast<uint32_t>(first - memory_);
  if (plain && (reinterpret_cast<uintptr_t>(map.base) % 16 != 0 || copy.bytes() % 16 != 0 || copy.to % ROW != 0))
    return "a copy of bytes is of multiples of 16 from a multiple of 16, and here to one of 128";
  if (!plain && copy.to % PATTERN != 0)
    return "the copy goes to offset " + text(copy.to) + ", no multiple of the swizzle's 1024 bytes";
  for (uint32_t i = copy.to / ROW; i < copy.end_row(); i++)
    if (rows_[i] == Row::coming) return "another copy to the same bytes is under way";
  for (const ThreadState& thread : threads_)
    for (const Store& store : thread.stores)
      if (!store.read && store.from < copy.to + copy.bytes() && copy.to < store.from + store.bytes.size())
        return "the copy overwrites a box that is being stored";
  // No product that some thread has not waited for may read these bytes.
  for (uint32_t group = 0; group < products_.size(); group++) {
    const auto begin = threads_.begin() + group * WARPGROUP;
    const auto slowest = std::min_element(
      begin, begin + WARPGROUP, [](const ThreadState& a, const ThreadState& b) { return a.taken < b.taken; });
    for (uint32_t i = slowest->taken; i < products_[group].size(); i++) {
      const Multiplication& product = products_[group][i];
      const auto overlaps = [&](const Operand& operand) {
        const std::vector<uint32_t> rows = rows_of(operand);
        return std::any_of(rows.begin(), rows.end(),
                           [&](uint32_t at) { return at >= copy.to && at < copy.to + copy.bytes(); });
      };
      if (overlaps(product.b()) || (!product.operands.registers && overlaps(product.a())))
        return "the copy overwrites an operand of a wgmma that thread " + text(slowest - threads_.begin()) +
               " has not waited for";
    }
  }
  std::fill(rows_.begin() + copy.to / ROW, rows_.begin() + copy.end_row(), Row::coming);
  std::memset(memory_ + copy.to, GARBAGE, copy.bytes());
  coming_++;
  signals.copies_.push_back(copy);
  return "";
}

void Async::land(size_t index) {
  const Copy copy = copies_[index];
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(index));
  copy.into->receive(copy);
  Barrier* barrier = find(copy.barrier);
  barrier->bytes -= copy.bytes();
  advance(*barrier);
}

void Async::receive(const Copy& copy) {
  const TensorMap& map = copy.map;
  for (uint32_t r = 0; r < map.box_rows; r++)
    for (uint32_t c = 0; c < map.box_width; c++) {
      const int64_t row = int64_t{copy.row} + r, column = int64_t{copy.column} + c;
      const bool inside = row >= 0 && static_cast<uint64_t>(row) < map.rows && column >= 0 &&
                          static_cast<uint64_t>(column) < map.width;
      const uint32_t byte = c * map.element_bytes;
      const uint32_t place = map.magic == TensorMap::BYTES ? byte : r * ROW + ((byte / 16 ^ r % 8) * 16 + byte % 16);
      unsigned char* to = memory_ + copy.to + place;
      if (inside)
        std::memcpy(to, map.base + static_cast<uint64_t>(row) * map.stride +
                          static_cast<uint64_t>(column) * map.element_bytes, map.element_bytes);
      else
        std::memset(to, 0, map.element_bytes);
    }
  std::memcpy(&published_[copy.to], memory_ + copy.to, copy.bytes());
  std::fill(rows_.begin() + copy.to / ROW, rows_.begin() + copy.end_row(), Row::bytes);
  coming_--;
}

}  // namespace simt

#pragma GCC visibility pop
