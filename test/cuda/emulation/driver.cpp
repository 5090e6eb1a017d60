// Checks of devices, contexts, memory, libraries and errors.
#include <thread>
#include "checks.h"

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
  const CUfunction faulty = kernel(library, "parameters"), slow = kernel(library, "slow");
  OK(launch(faulty, 1, 1, {8, 1, 2, 3, 4, 0}, stream));
  // Streams run on their own: by now the error may be known or not.
  const CUresult behind = launch(slow, 1, 1, {out, 1}, stream);
  EXPECT(behind == CUDA_SUCCESS || behind == CUDA_ERROR_ILLEGAL_ADDRESS, 1);
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(std::strstr(message(), "kernel 'parameters', block 0, thread 0: write to address 0x") != nullptr, 1);
  EXPECT(std::strstr(message(), ", near null") != nullptr, 1);
  const std::string first = message();
  EXPECT(cuEventRecord(event, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuEventQuery(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuMemAlloc(&out, 16), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(cuMemcpyDtoHAsync(&out, out, 4, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT(launch(slow, 1, 1, {out, 1}, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
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
  return run_check(count, arguments,
                   {{"entry_points", entry_points},
                    {"devices", devices},
                    {"no_devices", no_devices},
                    {"contexts", contexts},
                    {"memory", memory},
                    {"libraries", libraries},
                    {"sticky_errors", sticky_errors},
                    {"own_fault", own_fault},
                    {"planned_failures", planned_failures}});
}
