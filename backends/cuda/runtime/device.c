// Devices: opening, closing, and the rules by which calls enter them.
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static bool describe(const em_driver *driver, int index, CUdevice *ordinal, em_device_info *info, em_error *error) {
  int count = 0, major = 0, minor = 0;
  size_t memory = 0;
  memset(info, 0, sizeof *info);
  if (!em_check_driver(driver, driver->cuDeviceGetCount(&count), "cuDeviceGetCount", error)) return false;
  if (index < 0 || index >= count)
    return em_fail(error, "no_device", "no device %d: the driver has %d, counted from 0", index, count);
#define GET(call, ...)                                                               \
  if (!em_check_driver(driver, driver->call(__VA_ARGS__), #call, error)) return false;
  GET(cuDeviceGet, ordinal, index)
  GET(cuDeviceGetName, info->name, (int)sizeof info->name, *ordinal)
  GET(cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, *ordinal)
  GET(cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, *ordinal)
  GET(cuDeviceGetAttribute, &info->multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, *ordinal)
  GET(cuDeviceTotalMem, &memory, *ordinal)
#undef GET
  info->name[sizeof info->name - 1] = 0;
  info->capability = 10 * major + minor;
  info->memory = memory;
  info->emulated = driver->emulated;
  return true;
}

bool em_device_probe(const char *path, int index, em_device_info *info, em_error *error) {
  const em_driver *driver;
  CUdevice ordinal;
  return em_driver_open(path, &driver, error) && describe(driver, index, &ordinal, info, error);
}

bool em_device_open(const char *path, int index, em_device **opened, em_error *error) {
  const em_driver *driver;
  CUdevice ordinal;
  em_device_info info;
  if (!em_driver_open(path, &driver, error) || !describe(driver, index, &ordinal, &info, error)) return false;
  em_device *device = calloc(1, sizeof *device);
  if (!device) return em_fail(error, "out_of_memory", "no host memory for a device");
  device->references = 1;
  device->driver = driver;
  device->info = info;
  pthread_mutex_init(&device->mutex, NULL);
  pthread_cond_init(&device->changed, NULL);
  pthread_mutex_init(&device->watch.mutex, NULL);
  pthread_cond_init(&device->watch.changed, NULL);
  if (em_context_acquire(driver, ordinal, &device->context, error) &&
      EM_CALL(device, error, cuCtxSetCurrent, device->context->handle) &&
      EM_CALL(device, error, cuStreamCreate, &device->stream, CU_STREAM_NON_BLOCKING) &&
      em_staging_create(device, &device->upload, error) && em_staging_create(device, &device->download, error)) {
    *opened = device;
    return true;
  }
  em_device_release(device);
  return false;
}

const em_device_info *em_device_describe(const em_device *device) { return &device->info; }

bool em_device_memory(em_device *device, uint64_t *free_bytes, uint64_t *total_bytes, em_error *error) {
  size_t now = 0, total = 0;
  if (!em_device_enter(device, error)) return false;
  const bool good = EM_CALL(device, error, cuMemGetInfo, &now, &total);
  em_device_leave(device);
  if (!good) return false;
  *free_bytes = now;
  *total_bytes = total;
  return true;
}

bool em_device_enter(em_device *device, em_error *error) {
  pthread_mutex_lock(&device->mutex);
  bool good = true;
  if (device->closed)
    good = em_fail(error, "invalid_argument", "the device is closed; open it again");
  else if (atomic_load(&device->context->lost)) {
    *error = device->context->cause;
    good = false;
  } else {
    good = EM_CALL(device, error, cuCtxSetCurrent, device->context->handle);
  }
  if (!good) pthread_mutex_unlock(&device->mutex);
  return good;
}

bool em_device_enter_submit(em_device *device, em_error *error) {
  if (!em_device_enter(device, error)) return false;
  while (device->exclusive) {
    pthread_cond_wait(&device->changed, &device->mutex);
    if (device->closed) {
      pthread_mutex_unlock(&device->mutex);
      return em_fail(error, "invalid_argument", "the device is closed; open it again");
    }
  }
  return true;
}

void em_device_leave(em_device *device) { pthread_mutex_unlock(&device->mutex); }

void em_device_begin_wait(em_device *device) {
  device->waiting++;
  pthread_mutex_unlock(&device->mutex);
}

void em_device_end_wait(em_device *device) {
  pthread_mutex_lock(&device->mutex);
  device->waiting--;
  pthread_cond_broadcast(&device->changed);
}

uint64_t em_device_log(em_device *device, const char *program, const char *segment) {
  const uint64_t at = device->submitted++ % EM_LOG_ENTRIES;
  em_copy_text(device->log[at].program, sizeof device->log[at].program, program);
  em_copy_text(device->log[at].segment, sizeof device->log[at].segment, segment);
  return device->submitted;
}

void em_device_completed(em_device *device, uint64_t submission) {
  if (submission > device->completed) device->completed = submission;
}

void em_device_retain(em_device *device) { atomic_fetch_add(&device->references, 1); }

void em_device_close(em_device *device) {
  pthread_mutex_lock(&device->mutex);
  if (device->closed) {
    pthread_mutex_unlock(&device->mutex);
    return;
  }
  device->closed = true;
  pthread_cond_broadcast(&device->changed);
  while (device->waiting > 0) pthread_cond_wait(&device->changed, &device->mutex);
  if (device->context) {
    device->driver->cuCtxSetCurrent(device->context->handle);
    em_watch_drain(device);
    if (device->stream) device->driver->cuStreamSynchronize(device->stream);
    for (em_program *program = device->programs; program; program = em_program_next(program))
      em_program_free(program);
    em_watch_end(device);
    for (em_arena *arena = device->arenas; arena; arena = arena->next) em_arena_free(arena);
    while (device->modules) {
      em_module *module = device->modules;
      device->modules = module->next;
      em_module_give_back(device, module);
    }
    em_staging_destroy(device, &device->upload);
    em_staging_destroy(device, &device->download);
    if (device->aside) device->driver->cuStreamDestroy(device->aside);
    if (device->stream) device->driver->cuStreamDestroy(device->stream);
    em_context_give_back(device->context);
  }
  pthread_mutex_unlock(&device->mutex);
}

void em_device_release(em_device *device) {
  if (atomic_fetch_sub(&device->references, 1) > 1) return;
  em_device_close(device);
  pthread_mutex_destroy(&device->watch.mutex);
  pthread_cond_destroy(&device->watch.changed);
  pthread_mutex_destroy(&device->mutex);
  pthread_cond_destroy(&device->changed);
  free(device);
}
