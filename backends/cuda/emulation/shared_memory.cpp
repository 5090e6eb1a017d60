#include "shared_memory.h"
#include <sys/mman.h>
#include <algorithm>
#include <cstring>
#include <new>
#include "sanitizer.h"

#pragma GCC visibility push(hidden)

namespace simt {

// Between two arrays lie bytes that no kernel may touch.
constexpr size_t GUARD = 64, MAX_ARRAYS = 64;
constexpr size_t CAPACITY = SharedMemory::STATIC_LIMIT + (MAX_ARRAYS + 1) * (GUARD + 16);
constexpr unsigned char GARBAGE = 0xff;
constexpr size_t DYNAMIC_LIMIT = 227 * 1024, DYNAMIC_ALIGNMENT = 1024;

// Before the dynamic memory lies a guard that keeps its alignment.
constexpr size_t DYNAMIC_CAPACITY = DYNAMIC_ALIGNMENT + DYNAMIC_LIMIT + GUARD;

static unsigned char* map_memory(size_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  return static_cast<unsigned char*>(mapped);
}

SharedMemory::SharedMemory() : memory_(map_memory(CAPACITY)), dynamic_(map_memory(DYNAMIC_CAPACITY)) {
  std::memset(memory_, GARBAGE, GUARD);
  reset();
}

SharedMemory::~SharedMemory() {
  sanitizer::unpoison(memory_, CAPACITY);
  munmap(memory_, CAPACITY);
  sanitizer::unpoison(dynamic_, DYNAMIC_CAPACITY);
  munmap(dynamic_, DYNAMIC_CAPACITY);
}

void SharedMemory::reset() {
  entries_.clear();
  total_ = 0;
  end_ = GUARD;
  sanitizer::poison(memory_, CAPACITY);
}

void SharedMemory::poison() {
  for (const Entry& entry : entries_) std::memset(memory_ + entry.offset, GARBAGE, entry.array->bytes);
}

void* SharedMemory::add(const SharedArray& array) {
  total_ += (array.bytes + 15) / 16 * 16;
  if (total_ > STATIC_LIMIT || entries_.size() == MAX_ARRAYS) return nullptr;
  unsigned char* data = memory_ + end_;
  entries_.push_back({&array, end_});
  const size_t bytes = (array.bytes + 15) / 16 * 16 + GUARD;
  end_ += bytes;
  sanitizer::unpoison(data, bytes);
  std::memset(data, GARBAGE, bytes);
  sanitizer::poison(data + array.bytes, bytes - array.bytes);
  return data;
}

unsigned char* SharedMemory::make_dynamic(uint32_t bytes) {
  dynamic_array_.bytes = bytes;
  if (bytes == 0) return nullptr;
  unsigned char* data = dynamic_ + DYNAMIC_ALIGNMENT;
  sanitizer::unpoison(data - GUARD, bytes + 2 * GUARD);
  std::memset(data - GUARD, GARBAGE, bytes + 2 * GUARD);
  sanitizer::poison(dynamic_, DYNAMIC_ALIGNMENT);
  sanitizer::poison(data + bytes, DYNAMIC_CAPACITY - DYNAMIC_ALIGNMENT - bytes);
  return data;
}

const SharedArray* SharedMemory::overrun() const {
  const auto intact = [](const unsigned char* from, const unsigned char* to) {
    return std::all_of(from, to, [](unsigned char byte) { return byte == GARBAGE; });
  };
  for (size_t i = 0; i < entries_.size(); i++) {
    const size_t offset = entries_[i].offset, bytes = entries_[i].array->bytes;
    const size_t next = i + 1 < entries_.size() ? entries_[i + 1].offset : end_;
    if (!intact(memory_ + offset + bytes, memory_ + next) || (i == 0 && !intact(memory_, memory_ + offset)))
      return entries_[i].array;
  }
  const unsigned char *data = dynamic_ + DYNAMIC_ALIGNMENT, *end = data + dynamic_array_.bytes;
  if (dynamic_array_.bytes > 0 && (!intact(data - GUARD, data) || !intact(end, end + GUARD))) return &dynamic_array_;
  return nullptr;
}

}  // namespace simt
