// What the library exports: the driver's one entry point, and the emulation's own controls. The environment sets the
// rest, each with the prefix EXACTMAP_EMULATED_:
//
//   THREADS       threads of the host that run blocks; one for each of its processors
//   ORDER         of threads and blocks: forward, reverse or shuffle:<seed>
//   GRAPH_ORDER   of graph nodes: forward, which is the order of adding, or shuffle:<seed>
//   DEVICES       1
//   CAPABILITY    90 or 103
//   MEMORY        bytes of a device; 8 GiB
//   TIMEOUT       seconds that a block may take without waiting for another; 120
//   FAIL          <function>:<nth call>:<error>[,...] makes those calls fail
#include <cstring>
#include <iterator>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace {

struct Function {
  const char* name;
  int version;
  void* address;
};

#define CHECK(name, version, arguments) \
  static_assert(std::is_same_v<decltype(&emulated::name), CUresult(*) arguments>);
CUDA_API(CHECK)
CUDA_API_OF_NCCL(CHECK)
#undef CHECK

const Function functions[] = {
#define ENTRY(name, version, arguments) {#name, version, reinterpret_cast<void*>(&emulated::name)},
  CUDA_API(ENTRY) CUDA_API_OF_NCCL(ENTRY)
#undef ENTRY
};

struct ErrorText {
  CUresult error;
  const char *name, *text;
};
#define ERROR(name, text) {name, #name, text}
constexpr ErrorText errors[] = {
  ERROR(CUDA_SUCCESS, "no error"),
  ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
  ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
  ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
  ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
  ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
  ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
  ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
  ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
  ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
  ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
  ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
  ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
  ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
  ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
  ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
  ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
  ERROR(CUDA_ERROR_ASSERT, "device-side assert triggered"),
  ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
  ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
  ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch"),
  ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
  ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
  ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
  ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
  ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
        "attempt to terminate a thread-local capture sequence from another thread"),
  ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef ERROR

CUresult error_text(CUresult error, const char** text, const char* ErrorText::*member) {
  *text = nullptr;
  for (const ErrorText& one : errors)
    if (one.error == error) *text = one.*member;
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

enum Query { FOUND = 0, SYMBOL_NOT_FOUND = 1, VERSION_NOT_SUFFICIENT = 2 };

}  // namespace

CUresult emulated::cuGetErrorName(CUresult error, const char** text) {
  return error_text(error, text, &ErrorText::name);
}
CUresult emulated::cuGetErrorString(CUresult error, const char** text) {
  return error_text(error, text, &ErrorText::text);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT CUresult cuGetProcAddress_v2(const char* name, void** address, int version, cuuint64_t,
                                    CUdriverProcAddressQueryResult* status) {
  if (!name || !address) return CUDA_ERROR_INVALID_VALUE;
  *address = nullptr;
  int query = SYMBOL_NOT_FOUND;
  for (const Function& function : functions)
    if (std::strcmp(function.name, name) == 0) {
      query = version >= function.version ? FOUND : VERSION_NOT_SUFFICIENT;
      if (query == FOUND) *address = function.address;
    }
  if (status) *status = query;
  return query == FOUND ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

// By this name a host knows that no GPU is behind the driver.
EXPORT const int exactmap_emulated = 1;

// Why the last launch failed or the last call was refused; valid until the calling thread asks again.
EXPORT const char* exactmap_emulated_message(void) {
  static thread_local std::string text;
  text = driver::message();
  return text.c_str();
}

// The order of threads and blocks of launches from now on: "forward", "reverse" or "shuffle:<seed>". 0 if it is none.
EXPORT int exactmap_emulated_set_order(const char* text) {
  const auto order = text ? simt::parse_order(text) : std::nullopt;
  if (order) simt::set_thread_order(*order);
  return order.has_value();
}
