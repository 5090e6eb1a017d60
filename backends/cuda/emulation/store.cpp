// Boxes on their way from shared to device memory: each is read when its thread waits for that, and stored when it
// waits for the whole or the block has ended.
#include <algorithm>
#include <cstring>
#include "async.h"

#pragma GCC visibility push(hidden)

namespace simt {

static std::string text(uint64_t number) { return std::to_string(number); }

std::string Async::store(uint32_t thread, const TensorMap& map, int32_t column, int32_t row, const void* from,
                         bool add) {
  if (map.magic != TensorMap::MAGIC) return "the tensor map was not made by cuTensorMapEncodeTiled";
  if (add && map.element_bytes != sizeof(float)) return "the emulation adds to f32 only";
  if (map.box_width * map.element_bytes != ROW) return "the emulation stores boxes with rows of 128 bytes";
  const uint32_t bytes = map.box_rows * ROW;
  const auto* first = static_cast<const unsigned char*>(from);
  if (first < memory_ || first + bytes > memory_ + bytes_)
    return "the box of " + text(bytes) + " bytes leaves the dynamic shared memory";
  const uint32_t at = static_cast<uint32_t>(first - memory_);
  if (at % PATTERN != 0) return "the box is at offset " + text(at) + ", no multiple of the swizzle's 1024 bytes";
  for (uint32_t r = 0; r < map.box_rows; r++)
    if (const Problem problem = check_row(at + r * ROW); !problem.empty())
      return "row " + text(r) + " of the box " + problem;
  ThreadState& state = threads_[thread];
  state.stores.push_back({map, column, row, at, state.store_groups, add, false, {first, first + bytes}});
  return "";
}

std::string Async::read_box(Store& store) const {
  if (std::memcmp(store.bytes.data(), memory_ + store.from, store.bytes.size()) != 0)
    return "a box was written before its store had read it";
  store.read = true;
  return "";
}

std::string Async::wait_for_stores(uint32_t thread, uint32_t pending, bool read) {
  ThreadState& state = threads_[thread];
  const auto over = [&](const Store& store) { return store.group + pending < state.store_groups; };
  for (Store& store : state.stores)
    if (over(store) && !store.read)
      if (const Problem problem = read_box(store); !problem.empty()) return problem;
  if (read) return "";
  for (const Store& store : state.stores)
    if (over(store)) land(store);
  std::erase_if(state.stores, over);
  return "";
}

void Async::land(const Store& store) {
  const TensorMap& map = store.map;
  for (uint32_t r = 0; r < map.box_rows; r++)
    for (uint32_t c = 0; c < map.box_width; c++) {
      const int64_t row = int64_t{store.row} + r, column = int64_t{store.column} + c;
      if (row < 0 || static_cast<uint64_t>(row) >= map.rows) continue;
      if (column < 0 || static_cast<uint64_t>(column) >= map.width) continue;
      const uint32_t byte = c * map.element_bytes;
      const unsigned char* from = &store.bytes[r * ROW + ((byte / 16 ^ r % 8) * 16 + byte % 16)];
      auto* to = const_cast<unsigned char*>(map.base) + static_cast<uint64_t>(row) * map.stride +
                 static_cast<uint64_t>(column) * map.element_bytes;
      if (store.add) {
        float sum, part;
        std::memcpy(&sum, to, sizeof sum);
        std::memcpy(&part, from, sizeof part);
        sum += part;
        std::memcpy(to, &sum, sizeof sum);
      } else {
        std::memcpy(to, from, map.element_bytes);
      }
    }
}

}  // namespace simt

#pragma GCC visibility pop
