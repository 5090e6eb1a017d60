// Checks of the emulated driver's answers to wrong and right calls: <program> <driver> <check> prints nothing where the
// check holds.
#include <dlfcn.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>
#include "../../backends/cuda/runtime/cuda_api.h"

#define DECLARE(name, version, arguments) static CUresult(*name) arguments;
CUDA_API(DECLARE)

static CUresult (*resolve)(const char*, void**, int, cuuint64_t, int*);
static const char* (*message)();

#define EXPECT(call, want)                                                                                    \
  do {                                                                                                        \
    const long long got_ = static_cast<long long>(call), want_ = static_cast<long long>(want);               \
    if (got_ != want_) std::printf("line %d: %s is %lld, not %lld (%s)\n", __LINE__, #call, got_, want_, message()); \
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

static void entry_points() {
  void* address;
  int status;
  EXPECT(resolve("cuMemAlloc", &address, 3020, 0, &status), CUDA_SUCCESS);
  EXPECT(status, 0);
  EXPECT(resolve("cuMemAlloc", &address, 2000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT(status, 2);
  EXPECT(resolve("cuNothing", &address, 13000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT(status, 1);
  EXPECT(reinterpret_cast<uintptr_t>(address), 0);
  const char* text = nullptr;
  OK(cuGetErrorName(CUDA_ERROR_LAUNCH_FAILED, &text));
  EXPECT(std::strcmp(text, "CUDA_ERROR_LAUNCH_FAILED"), 0);
  OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
  EXPECT(std::strcmp(text, "out of memory"), 0);
  EXPECT(cuGetErrorName(31337, &text), CUDA_ERROR_INVALID_VALUE);
}

static void devices() {
  int count = -1, value = 0;
  size_t bytes = 0;
  char name[64];
  EXPECT(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
  EXPECT(cuInit(1), CUDA_ERROR_INVALID_VALUE);
  OK(cuInit(0));
  OK(cuDriverGetVersion(&value));
  EXPECT(value, 13000);
  OK(cuDeviceGetCount(&count));
  EXPECT(count, 2);
  CUdevice device;
  OK(cuDeviceGet(&device, 1));
  EXPECT(cuDeviceGet(&device, 2), CUDA_ERROR_INVALID_DEVICE);
  OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
  EXPECT(value, 10);
  OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 1));
  EXPECT(value, 3);
  OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
  EXPECT(value, 4);
  OK(cuDeviceGetName(name, sizeof name, 0));
  EXPECT(std::strcmp(name, "Emulated GPU (sm_103)"), 0);
  OK(cuDeviceTotalMem(&bytes, 0));
  EXPECT(bytes, 1048576);

  // Each device has its own memory.
  CUcontext first, second;
  OK(cuDevicePrimaryCtxRetain(&first, 0));
  OK(cuDevicePrimaryCtxRetain(&second, 1));
  CUdeviceptr a, b, c;
  OK(cuCtxSetCurrent(first));
  OK(cuMemAlloc(&a, 1000000));
  EXPECT(cuMemAlloc(&c, 1000000), CUDA_ERROR_OUT_OF_MEMORY);
  OK(cuCtxSetCurrent(second));
  OK(cuMemAlloc(&b, 1000000));
  OK(cuMemcpyDtoDAsync(b, a, 1000000, nullptr));
  EXPECT(cuMemFree(a), CUDA_ERROR_INVALID_VALUE);
  OK(cuDevicePrimaryCtxRelease(1));
  OK(cuCtxSetCurrent(first));
  size_t free = 0;
  OK(cuMemGetInfo(&free, &bytes));
  EXPECT(free, 1048576 - 1000192);
}

static void no_devices() { EXPECT(cuInit(0), CUDA_ERROR_NO_DEVICE); }

static void contexts() {
  CUdeviceptr address;
  EXPECT(cuMemAlloc(&address, 16), CUDA_ERROR_NOT_INITIALIZED);
  OK(cuInit(0));
  EXPECT(cuMemAlloc(&address, 16), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT(cuCtxSetCurrent(reinterpret_cast<CUcontext>(64)), CUDA_ERROR_INVALID_CONTEXT);
  begin();
  OK(cuMemAlloc(&address, 16));
  // The current context belongs to a thread.
  std::thread([] {
    CUdeviceptr other;
    EXPECT(cuMemAlloc(&other, 16), CUDA_ERROR_INVALID_CONTEXT);
    OK(cuCtxSetCurrent(context));
    OK(cuMemAlloc(&other, 16));
  }).join();
  CUstream stream;
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  OK(cuDevicePrimaryCtxRelease(0));
  EXPECT(cuMemAlloc(&address, 16), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT(cuDevicePrimaryCtxRelease(0), CUDA_ERROR_INVALID_CONTEXT);
  begin();
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuMemcpyDtoDAsync(address, address, 16, nullptr), CUDA_ERROR_INVALID_VALUE);
}

static void memory() {
  begin();
  CUdeviceptr a, b;
  EXPECT(cuMemAlloc(&a, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemAlloc(&a, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
  OK(cuMemAlloc(&a, 1000));
  OK(cuMemAlloc(&b, 1000));
  EXPECT(a % 256, 0);
  EXPECT(word(a + 996), 0xffffffffu);
  std::vector<unsigned char> bytes(1001, 7);
  OK(cuMemcpyHtoDAsync(a, bytes.data(), 1000, nullptr));
  // Pageable memory may change once the call has returned.
  bytes.assign(1001, 9);
  EXPECT(word(a + 500), 0x07070707);
  EXPECT(cuMemcpyHtoDAsync(a, bytes.data(), 1001, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemcpyHtoDAsync(a + 1, bytes.data(), 1000, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemcpyDtoHAsync(bytes.data(), a - 1, 4, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemcpyHtoDAsync(a, bytes.data(), 4, no_stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuMemcpyHtoDAsync(a, bytes.data(), 0, nullptr));
  OK(cuMemcpyDtoDAsync(b + 4, a, 996, nullptr));
  EXPECT(word(b), 0xffffffffu);
  EXPECT(word(b + 4), 0x07070707);
  OK(cuMemsetD8Async(b, 3, 8, nullptr));
  EXPECT(word(b + 4), 0x03030303);
  EXPECT(cuMemsetD8Async(b, 3, 1001, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemFree(a + 256), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemFree(a));
  EXPECT(cuMemFree(a), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemFree(0));
  void* host;
  OK(cuMemAllocHost(&host, 64));
  std::memset(host, 5, 64);
  OK(cuMemcpyHtoDAsync(b, host, 64, nullptr));
  EXPECT(word(b), 0x05050505);
  OK(cuMemFreeHost(host));
  EXPECT(cuMemFreeHost(host), CUDA_ERROR_INVALID_VALUE);
}

static void streams_and_events() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  const CUfunction slow = kernel(library, "slow"), append = kernel(library, "append");
  CUdeviceptr out, list;
  OK(cuMemAlloc(&out, 4));
  OK(cuMemAlloc(&list, 256));
  OK(cuMemsetD8Async(list, 0, 256, nullptr));
  OK(cuStreamSynchronize(nullptr));
  CUstream a, b;
  OK(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
  OK(cuStreamCreate(&b, 0));
  EXPECT(cuStreamCreate(&b, 2), CUDA_ERROR_INVALID_VALUE);
  CUevent start, end, untimed;
  OK(cuEventCreate(&start, 0));
  OK(cuEventCreate(&end, 0));
  OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
  EXPECT(cuEventCreate(&end, 8), CUDA_ERROR_INVALID_VALUE);
  float milliseconds = -1;
  OK(cuEventQuery(start));
  OK(cuEventSynchronize(start));
  OK(cuStreamWaitEvent(b, end, 0));
  EXPECT(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventRecord(start, a));
  OK(launch(slow, 1, 1, {out, 20000000}, a));
  OK(launch(append, 1, 1, {list, 1}, a));
  OK(cuEventRecord(end, a));
  EXPECT(cuEventQuery(end), CUDA_ERROR_NOT_READY);
  EXPECT(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
  OK(cuStreamWaitEvent(b, end, 0));
  // A wait is for the record before it, not for a later one.
  OK(launch(append, 1, 1, {list, 2}, b));
  OK(cuStreamSynchronize(b));
  OK(cuEventQuery(end));
  OK(cuEventSynchronize(end));
  EXPECT(word(list), 2);
  EXPECT(word(list + 4), 1);
  EXPECT(word(list + 8), 2);
  OK(cuEventElapsedTime(&milliseconds, start, end));
  EXPECT(milliseconds > 0, 1);
  OK(cuEventRecord(untimed, a));
  OK(cuEventSynchronize(untimed));
  EXPECT(cuEventElapsedTime(&milliseconds, start, untimed), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventDestroy(start));
  EXPECT(cuEventDestroy(start), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuEventRecord(start, a), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuEventRecord(end, no_stream), CUDA_ERROR_INVALID_HANDLE);
  // A stream that is destroyed still finishes its work.
  OK(launch(slow, 1, 1, {out, 2000000}, a));
  OK(launch(append, 1, 1, {list, 3}, a));
  OK(cuEventRecord(end, a));
  OK(cuStreamDestroy(a));
  EXPECT(cuStreamSynchronize(a), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventSynchronize(end));
  EXPECT(word(list), 3);
  // Memory is freed when nothing can use it any more.
  OK(launch(slow, 1, 1, {out, 2000000}, b));
  OK(launch(append, 1, 1, {list, 4}, b));
  OK(cuMemcpyDtoDAsync(list + 128, list, 128, b));
  OK(cuStreamDestroy(b));
  OK(cuMemFree(list));
  OK(cuDevicePrimaryCtxReset(0));
  OK(cuMemAlloc(&out, 4));
}

static CUresult add_append(CUgraphNode* node, CUgraph graph, std::vector<CUgraphNode> after, CUfunction function,
                           CUdeviceptr list, uint32_t value) {
  void* parameters[] = {&list, &value};
  CUDA_KERNEL_NODE_PARAMS given{};
  given.func = function;
  given.gridDimX = given.gridDimY = given.gridDimZ = given.blockDimX = given.blockDimY = given.blockDimZ = 1;
  given.kernelParams = parameters;
  const CUresult result = cuGraphAddKernelNode(node, graph, after.data(), after.size(), &given);
  // Parameters were copied.
  value = 99;
  return result;
}

static void graphs() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  const CUfunction append = kernel(library, "append");
  CUdeviceptr list;
  OK(cuMemAlloc(&list, 256));
  OK(cuMemsetD8Async(list, 0, 256, nullptr));
  CUgraph graph, other;
  EXPECT(cuGraphCreate(&graph, 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphCreate(&graph, 0));
  OK(cuGraphCreate(&other, 0));
  CUgraphNode first, second, third, foreign;
  OK(add_append(&first, graph, {}, append, list, 1));
  OK(add_append(&second, graph, {first}, append, list, 2));
  OK(add_append(&third, graph, {first, second}, append, list, 3));
  OK(add_append(&foreign, other, {}, append, list, 4));
  CUgraphNode none;
  EXPECT(add_append(&none, graph, {foreign}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, graph, {first, first}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, graph, {}, nullptr, list, 5), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(add_append(&none, reinterpret_cast<CUgraph>(8), {}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = list;
  copy.dstDevice = list + 128;
  copy.WidthInBytes = 16;
  copy.Height = copy.Depth = 1;
  OK(cuGraphAddMemcpyNode(&none, graph, &third, 1, &copy, context));
  copy.WidthInBytes = 200;
  EXPECT(cuGraphAddMemcpyNode(&none, graph, nullptr, 0, &copy, context), CUDA_ERROR_INVALID_VALUE);

  CUgraphExec executable;
  OK(cuGraphInstantiate(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  EXPECT(cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuGraphInstantiate(&executable, graph, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, other, {first}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphUpload(executable, nullptr));
  OK(cuGraphLaunch(executable, nullptr));
  OK(cuStreamSynchronize(nullptr));
  for (uint32_t i = 0; i < 4; i++) EXPECT(word(list + 128 + 4 * i), i == 0 ? 3 : i);

  // Launches of one executable follow one another on any streams.
  CUstream a, b;
  OK(cuStreamCreate(&a, 1));
  OK(cuStreamCreate(&b, 1));
  for (int i = 0; i < 9; i++) OK(cuGraphLaunch(executable, i % 2 ? a : b));
  OK(cuStreamSynchronize(a));
  OK(cuStreamSynchronize(b));
  EXPECT(word(list), 30);
  EXPECT(cuGraphLaunch(executable, no_stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuGraphExecDestroy(executable));
  EXPECT(cuGraphLaunch(executable, nullptr), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuGraphExecDestroy(executable), CUDA_ERROR_INVALID_VALUE);
}

static void libraries() {
  begin();
  const auto refuses = [](const std::vector<char>& bytes, CUresult want) {
    CUlibrary library = nullptr;
    EXPECT(cuLibraryLoadData(&library, bytes.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), want);
  };
  const auto good = image();
  auto bad = good;
  refuses(std::vector<char>(4096, 'x'), CUDA_ERROR_INVALID_IMAGE);
  bad[18] = static_cast<char>(190);  // e_machine of a cubin
  refuses(bad, CUDA_ERROR_NO_BINARY_FOR_GPU);
  bad[18] = 3;
  refuses(bad, CUDA_ERROR_INVALID_IMAGE);
  bad = good;
  bad[39] = 127;  // the high byte of e_phoff
  refuses(bad, CUDA_ERROR_INVALID_IMAGE);
  bad = good;
  std::memset(bad.data() + 64, 0, 56 * 4);  // the first program headers
  refuses(bad, CUDA_ERROR_INVALID_IMAGE);
  EXPECT(cuLibraryUnload(reinterpret_cast<CUlibrary>(16)), CUDA_ERROR_INVALID_HANDLE);

  const CUlibrary first = load(good), second = load(good);
  CUkernel none;
  EXPECT(cuLibraryGetKernel(&none, first, "no_such_kernel"), CUDA_ERROR_NOT_FOUND);
  const CUfunction old = kernel(first, "parameters"), parameters = kernel(second, "parameters");
  OK(cuLibraryUnload(first));
  EXPECT(cuLibraryUnload(first), CUDA_ERROR_INVALID_HANDLE);
  CUdeviceptr out;
  OK(cuMemAlloc(&out, 24));
  EXPECT(launch(old, 1, 1, {out, 1, 2, 3, 4, 0}), CUDA_ERROR_INVALID_HANDLE);
  OK(launch(parameters, 1, 1, {out, 1, 2, 3, 4, 0}));
  EXPECT(word(out), 1);
  EXPECT(launch(parameters, 0, 1, {out, 1, 2, 3, 4, 0}), CUDA_ERROR_INVALID_VALUE);
  EXPECT(launch(parameters, 1, 2, {out, 1, 2, 3, 4, 0}), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  // A library that is unloaded in the middle of a launch stays until its end, and its place is used again.
  const CUfunction slow = kernel(second, "slow");
  OK(launch(slow, 1, 1, {out, 5000000}));
  OK(cuLibraryUnload(second));
  OK(cuStreamSynchronize(nullptr));
  for (int i = 0; i < 50; i++) OK(cuLibraryUnload(load(good)));
}

// An error of a launch stays with the context until it is reset, whatever is called.
static void sticky_errors() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  CUdeviceptr out;
  CUstream stream;
  CUevent event;
  OK(cuMemAlloc(&out, 24));
  OK(cuStreamCreate(&stream, 1));
  OK(cuEventCreate(&event, 0));
  OK(launch(kernel(library, "parameters"), 1, 1, {8, 1, 2, 3, 4, 0}, stream));
  OK(launch(kernel(library, "slow"), 1, 1, {out, 1}, stream));
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(std::strstr(message(), "kernel 'parameters', block 0, thread 0: write to address 0x") != nullptr, 1);
  EXPECT(std::strstr(message(), ", near null") != nullptr, 1);
  const std::string first = message();
  EXPECT(cuEventRecord(event, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuEventQuery(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuMemAlloc(&out, 16), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuMemcpyDtoHAsync(&out, out, 4, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(launch(kernel(library, "slow"), 1, 1, {out, 1}, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(first == message(), 1);
  OK(cuDevicePrimaryCtxReset(0));
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuMemAlloc(&out, 24));
  OK(launch(kernel(library, "parameters"), 1, 1, {out, 8, 2, 3, 4, 0}));
  EXPECT(word(out), 8);
}

// The process's own faults still end it.
static void own_fault() {
  begin();
  const auto bytes = image();
  CUdeviceptr out;
  OK(cuMemAlloc(&out, 24));
  OK(launch(kernel(load(bytes), "parameters"), 1, 1, {out, 1, 2, 3, 4, 0}));
  OK(cuStreamSynchronize(nullptr));
  *reinterpret_cast<volatile int*>(8) = 1;
}

static void planned_failures() {
  begin();
  CUdeviceptr a;
  OK(cuMemAlloc(&a, 16));
  EXPECT(cuMemAlloc(&a, 16), CUDA_ERROR_OUT_OF_MEMORY);
  OK(cuMemAlloc(&a, 16));
  EXPECT(cuStreamSynchronize(nullptr), CUDA_ERROR_LAUNCH_FAILED);
  OK(cuStreamSynchronize(nullptr));
}

int main(int count, char** arguments) {
  const std::map<std::string, void (*)()> checks = {
    {"entry_points", entry_points}, {"devices", devices},
    {"no_devices", no_devices},     {"contexts", contexts},
    {"memory", memory},             {"streams_and_events", streams_and_events},
    {"graphs", graphs},             {"libraries", libraries},
    {"sticky_errors", sticky_errors}, {"own_fault", own_fault},
    {"planned_failures", planned_failures},
  };
  if (count != 3 || !checks.count(arguments[2])) return 2;
  void* driver = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!driver) return std::fprintf(stderr, "%s\n", dlerror()), 2;
  resolve = reinterpret_cast<decltype(resolve)>(dlsym(driver, "cuGetProcAddress_v2"));
  message = reinterpret_cast<decltype(message)>(dlsym(driver, "exactmap_emulated_message"));
  const int* emulated = reinterpret_cast<int*>(dlsym(driver, "exactmap_emulated"));
  if (!resolve || !message || !emulated || *emulated != 1) return 2;
  int status;
#define RESOLVE(name, version, arguments) \
  if (resolve(#name, reinterpret_cast<void**>(&name), version, 0, &status)) return 2;
  CUDA_API(RESOLVE)
  checks.at(arguments[2])();
}
