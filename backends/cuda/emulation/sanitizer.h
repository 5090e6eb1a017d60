// AddressSanitizer's manual poisoning, where the process has its runtime: kernel libraries may be built with it while
// the driver is not.
#pragma once
#include <cstddef>

extern "C" __attribute__((weak)) void __asan_poison_memory_region(const volatile void*, size_t);
extern "C" __attribute__((weak)) void __asan_unpoison_memory_region(const volatile void*, size_t);

namespace sanitizer {

inline void poison(const void* address, size_t bytes) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(address, bytes);
}
inline void unpoison(const void* address, size_t bytes) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(address, bytes);
}

}  // namespace sanitizer
