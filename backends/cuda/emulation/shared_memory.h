// The SHARED arrays of a block, laid out in the order in which its threads first meet them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>
#include "abi.h"

#pragma GCC visibility push(hidden)

namespace simt {

class SharedMemory {
 public:
  static constexpr size_t STATIC_LIMIT = 48 * 1024;

  SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  ~SharedMemory();

  // Forgets the arrays of the last kernel.
  void reset();
  // Gives every array its initial garbage: 0xff, a NaN in every float.
  void poison();
  // nullptr where the arrays exceed the limit of static shared memory.
  void* find(const SharedArray& array) {
    for (const Entry& entry : entries_)
      if (entry.array == &array) return memory_ + entry.offset;
    return add(array);
  }
  // `bytes` at a multiple of 1,024 beside the arrays, garbage at first.
  unsigned char* make_dynamic(uint32_t bytes);
  // The array that something was written just before or past; nullptr where all is well.
  const SharedArray* overrun() const;

 private:
  struct Entry {
    const SharedArray* array;
    size_t offset;
  };
  void* add(const SharedArray& array);

  unsigned char *memory_, *dynamic_;
  SharedArray dynamic_array_{"dynamic shared memory", 0};
  std::vector<Entry> entries_;
  size_t total_ = 0, end_;
};

}  // namespace simt

#pragma GCC visibility pop
