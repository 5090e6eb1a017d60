// Errors: how CUresults become error codes.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

void em_copy_text(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from ? from : ""); }

void em_error_clear(em_error *error) {
  memset(error, 0, sizeof *error);
  error->code = "internal";
}

bool em_fail(em_error *error, const char *code, const char *format, ...) {
  em_error_clear(error);
  error->code = code;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return false;
}

void em_error_place(em_error *error, const char *program, const char *segment, const char *launch,
                    const char *kernel) {
  if (program) em_copy_text(error->program, sizeof error->program, program);
  if (segment) em_copy_text(error->segment, sizeof error->segment, segment);
  if (launch) em_copy_text(error->launch, sizeof error->launch, launch);
  if (kernel) em_copy_text(error->kernel, sizeof error->kernel, kernel);
}

bool em_is_sticky(CUresult result) {
  switch ((int)result) {
    case CUDA_ERROR_DEINITIALIZED:
    case 214:  // CUDA_ERROR_ECC_UNCORRECTABLE
    case 220:  // CUDA_ERROR_NVLINK_UNCORRECTABLE
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case 709:  // CUDA_ERROR_CONTEXT_IS_DESTROYED
    case CUDA_ERROR_ASSERT:
    case 714:  // CUDA_ERROR_HARDWARE_STACK_ERROR
    case 715:  // CUDA_ERROR_ILLEGAL_INSTRUCTION
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case 717:  // CUDA_ERROR_INVALID_ADDRESS_SPACE
    case 718:  // CUDA_ERROR_INVALID_PC
    case CUDA_ERROR_LAUNCH_FAILED:
    case 721:  // CUDA_ERROR_CONTAINED
    case CUDA_ERROR_UNKNOWN:
      return true;
    default:
      return false;
  }
}

static const char *code_of(CUresult result) {
  if (em_is_sticky(result)) return "device_lost";
  switch ((int)result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      return "out_of_memory";
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
      return "no_device";
    case CUDA_ERROR_INVALID_IMAGE:
      return "kernel_compile";
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_NOT_SUPPORTED:
      return "unsupported";
    case CUDA_ERROR_NOT_FOUND:
      return "not_found";
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_INVALID_HANDLE:
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
      return "validation";
    default:
      return "internal";
  }
}

bool em_check_driver(const em_driver *driver, CUresult result, const char *call, em_error *error) {
  if (result == CUDA_SUCCESS) return true;
  const char *name = NULL, *text = NULL;
  if (driver->cuGetErrorName(result, &name) != CUDA_SUCCESS || !name) name = "an unknown CUDA error";
  if (driver->cuGetErrorString(result, &text) != CUDA_SUCCESS || !text) text = "no description";
  // After other errors the driver's words may be those of an older one.
  const bool explained =
      em_is_sticky(result) || result == CUDA_ERROR_INVALID_IMAGE || result == CUDA_ERROR_NO_BINARY_FOR_GPU;
  const char *more = driver->explain && explained ? driver->explain() : "";
  em_fail(error, code_of(result), "%s gave %s (%d): %s%s%s", call, name, (int)result, text, *more ? "; " : "", more);
  error->call = call;
  error->cuda_error = (int)result;
  em_copy_text(error->cuda_name, sizeof error->cuda_name, name);
  return false;
}

// Says which submission an error belongs to that shows after it: the oldest one that is not known to have finished.
static void blame_oldest(const em_device *device, em_error *error) {
  const uint64_t open = device->submitted - device->completed;
  if (open == 0) return;
  const uint64_t oldest = device->completed + (open > EM_LOG_ENTRIES ? open - EM_LOG_ENTRIES : 0);
  em_error_place(error, device->log[oldest % EM_LOG_ENTRIES].program, device->log[oldest % EM_LOG_ENTRIES].segment,
                 NULL, NULL);
  const size_t end = strlen(error->message);
  char *rest = error->message + end;
  if (open > 1)
    snprintf(rest, sizeof error->message - end,
             "; named is the oldest of %llu submissions that had not finished. EXACTMAP_CUDA_EAGER=1 names the "
             "launch",
             (unsigned long long)open);
  else
    snprintf(rest, sizeof error->message - end, ". EXACTMAP_CUDA_EAGER=1 names the launch");
}

bool em_check(em_device *device, CUresult result, const char *call, em_error *error) {
  if (result == CUDA_SUCCESS) {
    if (!atomic_load(&device->context->lost)) return true;
    // What was waited for has ended because its messages were aborted.
    *error = device->context->cause;
    return false;
  }
  em_check_driver(device->driver, result, call, error);
  if (!em_is_sticky(result)) return false;
  if (!device->stepping) blame_oldest(device, error);
  em_context_lose(device->context, error);
  return false;
}
