// What programs that check the driver's answers share: <program> <driver> <check> prints nothing where the check
// holds. KERNELS in the environment names the library of primitives.cu.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>
#include "open_driver.h"

#define EXPECT(call, want)                                                                      \
  do {                                                                                          \
    const long long got_ = static_cast<long long>(call), want_ = static_cast<long long>(want); \
    if (got_ != want_)                                                                          \
      std::printf("line %d: %s is %lld, not %lld (%s)\n", __LINE__, #call, got_, want_, message()); \
  } while (false)
#define OK(call) EXPECT(call, CUDA_SUCCESS)

static CUcontext context;
static const CUstream no_stream = reinterpret_cast<CUstream>(12345);

static void begin() {
  OK(cuInit(0));
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
}

static std::vector<char> image() {
  std::ifstream file(std::getenv("KERNELS"), std::ios::binary);
  return std::vector<char>((std::istreambuf_iterator<char>(file)), {});
}

static CUlibrary load(const std::vector<char>& bytes) {
  CUlibrary library;
  OK(cuLibraryLoadData(&library, bytes.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  return library;
}

static CUfunction kernel(CUlibrary library, const char* name) {
  CUkernel found = nullptr;
  OK(cuLibraryGetKernel(&found, library, name));
  return reinterpret_cast<CUfunction>(found);
}

static CUresult launch(CUfunction function, unsigned grid, unsigned threads, std::vector<uint64_t> values,
                       CUstream stream = nullptr) {
  std::vector<void*> pointers;
  for (uint64_t& value : values) pointers.push_back(&value);
  return cuLaunchKernel(function, grid, 1, 1, threads, 1, 1, 0, stream, pointers.data(), nullptr);
}

static uint32_t word(CUdeviceptr address) {
  uint32_t value = 0;
  OK(cuMemcpyDtoHAsync(&value, address, sizeof value, nullptr));
  return value;
}

inline int run_check(int count, char** arguments, const std::map<std::string, void (*)()>& checks) {
  if (count != 3 || !checks.count(arguments[2])) return 2;
  open_driver(arguments[1]);
  checks.at(arguments[2])();
  return 0;
}
