// Device memory lies on the host such that its end touches a page that faults. The few bytes beside it that share a
// page with it keep a pattern, and a write to them is found after the kernel.
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include "driver.h"
#include "sanitizer.h"

#pragma GCC visibility push(hidden)

namespace driver {

constexpr unsigned char GARBAGE = 0xff;
constexpr size_t ALIGNMENT = 256;
// Freed addresses stay unreadable until so many others have been freed.
constexpr size_t QUARANTINE = 1024;

struct Allocation {
  size_t bytes;
  int device;
  const Context* context;
  unsigned char* mapping;
  size_t mapped;
};

// Never destroyed: streams may be at work when the process ends.
static std::mutex& mutex = *new std::mutex();
static auto& allocations = *new std::map<uintptr_t, Allocation>();
static auto& freed = *new std::deque<std::pair<uintptr_t, Allocation>>();
static auto& pinned = *new std::map<uintptr_t, size_t>();

static size_t page() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t device_bytes() {
  const char* text = std::getenv("EXACTMAP_EMULATED_MEMORY");
  const unsigned long long asked = text ? std::strtoull(text, nullptr, 10) : 0;
  return asked ? asked : size_t{8} << 30;
}

static size_t used_locked(int device) {
  size_t used = 0;
  for (const auto& [base, one] : allocations)
    if (one.device == device) used += round_up(one.bytes, ALIGNMENT);
  return used;
}

size_t used_bytes(int device) {
  const std::lock_guard lock(mutex);
  return used_locked(device);
}

// The entry at or below `address`, or end.
template <class Map>
static auto entry_below(Map& map, uintptr_t address) {
  auto after = map.upper_bound(address);
  return after == map.begin() ? map.end() : --after;
}

CUresult allocate_device(const std::shared_ptr<Context>& context, size_t bytes, CUdeviceptr& address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(mutex);
  const size_t data = round_up(bytes, ALIGNMENT);
  if (data < bytes || data > device_bytes() - std::min(device_bytes(), used_locked(context->device)))
    return CUDA_ERROR_OUT_OF_MEMORY;
  const size_t body = round_up(data, page()), mapped = body + 2 * page();
  void* mapping = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  unsigned char* first = static_cast<unsigned char*>(mapping) + page();
  if (mprotect(first, body, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, mapped);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  std::memset(first, GARBAGE, body);
  unsigned char* base = first + body - data;
  sanitizer::poison(first, static_cast<size_t>(base - first));
  sanitizer::poison(base + bytes, data - bytes);
  address = reinterpret_cast<uintptr_t>(base);
  allocations[reinterpret_cast<uintptr_t>(base)] = {bytes, context->device, context.get(),
                                                    static_cast<unsigned char*>(mapping), mapped};
  return CUDA_SUCCESS;
}

static void release(std::map<uintptr_t, Allocation>::iterator found) {
  const Allocation& one = found->second;
  sanitizer::unpoison(one.mapping + page(), one.mapped - 2 * page());
  mmap(one.mapping, one.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  freed.emplace_back(*found);
  allocations.erase(found);
  if (freed.size() <= QUARANTINE) return;
  munmap(freed.front().second.mapping, freed.front().second.mapped);
  freed.pop_front();
}

CUresult free_device(const Context& context, CUdeviceptr address) {
  if (address == 0) return CUDA_SUCCESS;
  const std::lock_guard lock(mutex);
  const auto found = allocations.find(address);
  if (found == allocations.end() || found->second.context != &context) return CUDA_ERROR_INVALID_VALUE;
  release(found);
  return CUDA_SUCCESS;
}

void free_all(const Context& context) {
  const std::lock_guard lock(mutex);
  for (auto i = allocations.begin(); i != allocations.end();) {
    const auto next = std::next(i);
    if (i->second.context == &context) release(i);
    i = next;
  }
}

bool is_device_range(CUdeviceptr address, size_t bytes) {
  const std::lock_guard lock(mutex);
  const auto found = entry_below(allocations, address);
  return found != allocations.end() && bytes <= found->second.bytes &&
         address - found->first <= found->second.bytes - bytes;
}

std::optional<std::pair<CUdeviceptr, size_t>> allocation_of(CUdeviceptr address) {
  const std::lock_guard lock(mutex);
  const auto found = entry_below(allocations, address);
  if (found == allocations.end() || address - found->first >= found->second.bytes) return std::nullopt;
  return std::pair{CUdeviceptr{found->first}, found->second.bytes};
}

std::string overrun_allocation() {
  const std::lock_guard lock(mutex);
  const auto intact = [](const unsigned char* from, const unsigned char* to) {
    return std::all_of(from, to, [](unsigned char byte) { return byte == GARBAGE; });
  };
  for (const auto& [address, one] : allocations) {
    const unsigned char* base = reinterpret_cast<const unsigned char*>(address);
    const unsigned char* first = std::max<const unsigned char*>(one.mapping + page(), base - ALIGNMENT);
    const std::string name = "a device allocation of " + std::to_string(one.bytes) + " bytes";
    if (!intact(first, base)) return "wrote just before " + name;
    if (!intact(base + one.bytes, base + round_up(one.bytes, ALIGNMENT))) return "wrote just past " + name;
  }
  return "";
}

static std::string describe(uintptr_t address) {
  if (address < 65536) return ", near null";
  const std::lock_guard lock(mutex);
  for (const auto& [base, one] : freed)
    if (address - base < one.bytes)
      return ", in device memory that was freed (" + std::to_string(one.bytes) + " bytes)";
  const auto text = [](uintptr_t distance, const char* where, const Allocation& one) {
    return ", " + std::to_string(distance) + " bytes " + where + " a device allocation of " +
           std::to_string(one.bytes) + " bytes";
  };
  const auto below = entry_below(allocations, address);
  const auto above = allocations.upper_bound(address);
  const uintptr_t past = below == allocations.end() ? UINTPTR_MAX : address - below->first - below->second.bytes;
  const uintptr_t before = above == allocations.end() ? UINTPTR_MAX : above->first - address;
  constexpr uintptr_t near = uintptr_t{1} << 30;
  if (std::min(past, before) > near) return ", outside device memory";
  return past < before ? text(past, "past the end of", below->second) : text(before, "before", above->second);
}

// Before any launch can run.
[[maybe_unused]] static const bool described = (simt::describe_address = describe, true);

CUresult allocate_pinned(size_t bytes, void*& address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  address = std::aligned_alloc(page(), round_up(bytes, page()));
  if (!address) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::lock_guard lock(mutex);
  pinned[reinterpret_cast<uintptr_t>(address)] = bytes;
  return CUDA_SUCCESS;
}

CUresult free_pinned(void* address) {
  {
    const std::lock_guard lock(mutex);
    if (pinned.erase(reinterpret_cast<uintptr_t>(address)) == 0) return CUDA_ERROR_INVALID_VALUE;
  }
  std::free(address);
  return CUDA_SUCCESS;
}

bool is_pinned(const void* address, size_t bytes) {
  const std::lock_guard lock(mutex);
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  const auto found = entry_below(pinned, at);
  return found != pinned.end() && bytes <= found->second && at - found->first <= found->second - bytes;
}

}  // namespace driver

using namespace driver;

CUresult emulated::cuMemGetInfo(size_t* free, size_t* total) {
  ENTER_CONTEXT(cuMemGetInfo);
  *total = device_bytes();
  *free = *total - used_bytes(context->device);
  return CUDA_SUCCESS;
}

CUresult emulated::cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  ENTER_CONTEXT(cuMemAlloc);
  REFUSE_UNSAFE(cuMemAlloc);
  return allocate_device(context, bytes, *address);
}

CUresult emulated::cuMemFree(CUdeviceptr address) {
  ENTER_CONTEXT(cuMemFree);
  REFUSE_UNSAFE(cuMemFree);
  context->finish();
  return free_device(*context, address);
}

CUresult emulated::cuMemGetAddressRange(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  ENTER_CONTEXT(cuMemGetAddressRange);
  const auto found = allocation_of(address);
  if (!found) return refuse(CUDA_ERROR_NOT_FOUND, "the address is in no device memory");
  if (base) *base = found->first;
  if (bytes) *bytes = found->second;
  return CUDA_SUCCESS;
}

CUresult emulated::cuMemAllocHost(void** address, size_t bytes) {
  ENTER_CONTEXT(cuMemAllocHost);
  REFUSE_UNSAFE(cuMemAllocHost);
  return allocate_pinned(bytes, *address);
}

CUresult emulated::cuMemFreeHost(void* address) {
  ENTER_CONTEXT(cuMemFreeHost);
  REFUSE_UNSAFE(cuMemFreeHost);
  context->finish();
  return free_pinned(address);
}
