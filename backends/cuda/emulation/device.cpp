// Devices, their primary contexts, errors, and the functions that hosts find by name.
#include <dlfcn.h>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace driver {

constexpr int MAX_DEVICES = 64;
constexpr int DRIVER_VERSION = 13000;

// A primary context's handle is its device: it stays the same when the context ends and begins again.
struct Device {
  int retained = 0;
  std::shared_ptr<Context> context;
};

// Never destroyed: streams may be at work when the process ends.
static std::mutex& mutex = *new std::mutex();
static auto& devices = *new std::array<Device, MAX_DEVICES>();
static auto& last_message = *new std::string();
static thread_local Device* current = nullptr;
static std::atomic<bool> initialized = false;

static int environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoi(text) : otherwise;
}

static int device_count() { return std::min(MAX_DEVICES, std::max(0, environment("EXACTMAP_EMULATED_DEVICES", 1))); }
static bool is_device(int device) { return device >= 0 && device < device_count(); }
static int capability() { return environment("EXACTMAP_EMULATED_CAPABILITY", 90); }

void set_message(const std::string& message) {
  const std::lock_guard lock(mutex);
  last_message = message;
}

std::string message() {
  const std::lock_guard lock(mutex);
  return last_message;
}

CUresult refuse(CUresult error, const std::string& message) {
  set_message(message);
  return error;
}

// A call that EXACTMAP_EMULATED_FAIL=<function>:<nth call>:<error>[,...] makes fail.
struct PlannedFailure {
  std::string function;
  long nth;
  CUresult error;
  long calls = 0;
};

static CUresult planned_failure(const char* function) {
  static std::mutex plan_mutex;
  static auto& plan = *new std::vector<PlannedFailure>([] {
    std::vector<PlannedFailure> read;
    const char* text = std::getenv("EXACTMAP_EMULATED_FAIL");
    for (; text && *text; text = std::strchr(text, ',') ? std::strchr(text, ',') + 1 : nullptr) {
      char name[64];
      long nth;
      int error;
      if (std::sscanf(text, "%63[A-Za-z0-9_]:%ld:%d", name, &nth, &error) == 3) read.push_back({name, nth, error});
    }
    return read;
  }());
  const std::lock_guard lock(plan_mutex);
  for (PlannedFailure& one : plan)
    if (one.function == function && ++one.calls == one.nth) return one.error;
  return CUDA_SUCCESS;
}

// Set while the calling thread runs a host function.
static thread_local bool in_host_call = false;

void run_host_call(const HostCall& call) {
  in_host_call = true;
  call.function(call.argument);
  in_host_call = false;
}

CUresult enter(const char* function) {
  if (const CUresult error = planned_failure(function)) return error;
  if (in_host_call) return refuse(CUDA_ERROR_NOT_PERMITTED, std::string("a host function calls ") + function);
  return initialized ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult current_context(std::shared_ptr<Context>& context) {
  const std::lock_guard lock(mutex);
  if (!current || !current->context) return CUDA_ERROR_INVALID_CONTEXT;
  context = current->context;
  return context->sticky;
}

void Context::fail(CUresult error, const std::string& message) {
  CUresult none = CUDA_SUCCESS;
  if (sticky.compare_exchange_strong(none, error)) set_message(message);
}

std::shared_ptr<Stream> Context::default_stream() {
  const std::lock_guard lock(mutex_);
  if (!default_stream_) {
    const std::lock_guard device_lock(mutex);
    default_stream_ = std::make_shared<Stream>(devices[device].context);
  }
  return default_stream_;
}

void Context::add_work() {
  const std::lock_guard lock(work_mutex_);
  work_++;
}

void Context::remove_work() {
  const std::lock_guard lock(work_mutex_);
  if (--work_ == 0) idle_.notify_all();
}

void Context::finish() {
  std::unique_lock lock(work_mutex_);
  idle_.wait(lock, [&] { return work_ == 0; });
}

void Context::end() {
  finish();
  streams().remove_if([&](const Stream& stream) { return stream.context.get() == this; });
  events().remove_if([&](const Event& event) { return event.context.lock().get() == this; });
  free_all(*this);
  const std::lock_guard lock(mutex_);
  default_stream_.reset();
}

}  // namespace driver

using namespace driver;

CUresult emulated::cuInit(unsigned int flags) {
  if (const CUresult error = planned_failure("cuInit")) return error;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (device_count() == 0) return CUDA_ERROR_NO_DEVICE;
  // Threads of this library and its signal handlers live as long as the process, whoever closes the library.
  static std::once_flag once;
  std::call_once(once, [] {
    Dl_info own;
    if (dladdr(reinterpret_cast<void*>(&emulated::cuInit), &own)) dlopen(own.dli_fname, RTLD_LAZY | RTLD_NODELETE);
  });
  initialized = true;
  return CUDA_SUCCESS;
}

CUresult emulated::cuDriverGetVersion(int* version) {
  if (const CUresult error = planned_failure("cuDriverGetVersion")) return error;
  *version = DRIVER_VERSION;
  return CUDA_SUCCESS;
}

CUresult emulated::cuDeviceGetCount(int* count) {
  ENTER(cuDeviceGetCount);
  *count = device_count();
  return CUDA_SUCCESS;
}

CUresult emulated::cuDeviceGet(CUdevice* device, int ordinal) {
  ENTER(cuDeviceGet);
  if (!is_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult emulated::cuDeviceGetName(char* name, int bytes, CUdevice device) {
  ENTER(cuDeviceGetName);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (bytes < 1) return CUDA_ERROR_INVALID_VALUE;
  std::snprintf(name, static_cast<size_t>(bytes), "Emulated GPU (sm_%d)", capability());
  return CUDA_SUCCESS;
}

CUresult emulated::cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  ENTER(cuDeviceGetAttribute);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = simt::MULTIPROCESSORS;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      *value = device;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = capability() / 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = capability() % 10;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult emulated::cuDeviceTotalMem(size_t* bytes, CUdevice device) {
  ENTER(cuDeviceTotalMem);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = device_bytes();
  return CUDA_SUCCESS;
}

CUresult emulated::cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice device) {
  ENTER(cuDevicePrimaryCtxRetain);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  const std::lock_guard lock(mutex);
  Device& owner = devices[device];
  owner.retained++;
  if (!owner.context) owner.context = std::make_shared<Context>(device);
  *handle = reinterpret_cast<CUcontext>(&owner);
  return CUDA_SUCCESS;
}

// Ends what the device holds and puts `next` in its place.
static void replace_context(Device& device, std::shared_ptr<Context> next) {
  std::shared_ptr<Context> ending;
  {
    const std::lock_guard lock(mutex);
    ending = std::exchange(device.context, std::move(next));
  }
  if (ending) ending->end();
}

CUresult emulated::cuDevicePrimaryCtxRelease(CUdevice device) {
  ENTER(cuDevicePrimaryCtxRelease);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  {
    const std::lock_guard lock(mutex);
    if (devices[device].retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--devices[device].retained > 0) return CUDA_SUCCESS;
  }
  replace_context(devices[device], nullptr);
  return CUDA_SUCCESS;
}

CUresult emulated::cuDevicePrimaryCtxReset(CUdevice device) {
  ENTER(cuDevicePrimaryCtxReset);
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  bool retained;
  {
    const std::lock_guard lock(mutex);
    retained = devices[device].retained > 0;
  }
  replace_context(devices[device], retained ? std::make_shared<Context>(device) : nullptr);
  return CUDA_SUCCESS;
}

CUresult emulated::cuCtxSetCurrent(CUcontext handle) {
  ENTER(cuCtxSetCurrent);
  const std::lock_guard lock(mutex);
  Device* found = nullptr;
  for (Device& device : devices)
    if (handle && reinterpret_cast<CUcontext>(&device) == handle && device.context) found = &device;
  if (handle && !found) return CUDA_ERROR_INVALID_CONTEXT;
  current = found;
  return CUDA_SUCCESS;
}

CUresult emulated::cuCtxGetCurrent(CUcontext* handle) {
  ENTER(cuCtxGetCurrent);
  const std::lock_guard lock(mutex);
  *handle = reinterpret_cast<CUcontext>(current);
  return CUDA_SUCCESS;
}

CUresult emulated::cuCtxGetDevice(CUdevice* device) {
  ENTER_CONTEXT(cuCtxGetDevice);
  *device = context->device;
  return CUDA_SUCCESS;
}
