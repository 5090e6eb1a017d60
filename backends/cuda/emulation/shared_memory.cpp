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

SharedMemory::SharedMemory() {
  void* mapped =
    mmap(nullptr, CAPACITY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(mapped);
  std::memset(memory_, GARBAGE, GUARD);
  reset();
}

SharedMemory::~SharedMemory() {
  sanitizer::unpoison(memory_, CAPACITY);
  munmap(memory_, CAPACITY);
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

const SharedArray* SharedMemory::overrun() const {
  const auto intact = [&](size_t from, size_t to) {
    return std::all_of(memory_ + from, memory_ + to, [](unsigned char byte) { return byte == GARBAGE; });
  };
  for (size_t i = 0; i < entries_.size(); i++) {
    const size_t offset = entries_[i].offset, bytes = entries_[i].array->bytes;
    const size_t next = i + 1 < entries_.size() ? entries_[i + 1].offset : end_;
    if (!intact(offset + bytes, next) || (i == 0 && !intact(0, offset))) return entries_[i].array;
  }
  return nullptr;
}

}  // namespace simt
