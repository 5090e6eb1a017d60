// Opens driver libraries and resolves the functions of cuda_api.h at their versions; keeps primary contexts.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef CUresult (*get_proc_address)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static em_driver *drivers;
static em_context *contexts;

// Every pinned version is at most this: CUDA 12.8.
enum { REQUIRED_VERSION = 12080 };

static bool resolve(em_driver *driver, get_proc_address find, em_error *error) {
  CUresult (*get_version)(int *) = NULL;
  CUdriverProcAddressQueryResult status;
  int version = 0;
  if (find("cuDriverGetVersion", (void **)&get_version, 2020, 0, &status) == CUDA_SUCCESS && get_version)
    get_version(&version);
#define RESOLVE(name, since, arguments)                                                                             \
  {                                                                                                                 \
    void *found = NULL;                                                                                             \
    if (find(#name, &found, since, 0, &status) != CUDA_SUCCESS || !found)                                           \
      return em_fail(error, "unsupported",                                                                          \
                     "the driver '%s' (CUDA %d.%d) lacks " #name " of CUDA %d.%d; install a driver for CUDA %d.%d " \
                     "or newer",                                                                                    \
                     driver->path, version / 1000, version % 1000 / 10, since / 1000, since % 1000 / 10,            \
                     REQUIRED_VERSION / 1000, REQUIRED_VERSION % 1000 / 10);                                        \
    memcpy(&driver->name, &found, sizeof found);                                                                    \
  }
  CUDA_API(RESOLVE)
#undef RESOLVE
  return true;
}

static bool load(const char *path, em_driver **loaded, em_error *error) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return em_fail(error, "no_device", "no CUDA driver: %s; install NVIDIA's driver, or give the path of one",
                   reason ? reason : path);
  }
  em_driver *driver = calloc(1, sizeof *driver);
  if (driver) driver->path = strdup(path);
  bool good = false;
  const get_proc_address find = (get_proc_address)dlsym(library, "cuGetProcAddress_v2");
  if (!driver || !driver->path)
    em_fail(error, "out_of_memory", "no host memory for the driver's table");
  else if (!find)
    em_fail(error, "unsupported", "the driver '%s' has no cuGetProcAddress_v2; install one for CUDA %d.%d or newer",
            path, REQUIRED_VERSION / 1000, REQUIRED_VERSION % 1000 / 10);
  else
    good = resolve(driver, find, error) && em_check_driver(driver, driver->cuInit(0), "cuInit", error);
  if (!good) {
    if (driver) free(driver->path);
    free(driver);
    dlclose(library);
    return false;
  }
  // What the emulated driver (../emulation) has beside the functions of CUDA.
  driver->emulated = dlsym(library, "exactmap_emulated") != NULL;
  void *explain = dlsym(library, "exactmap_emulated_message");
  memcpy(&driver->explain, &explain, sizeof explain);
  *loaded = driver;
  return true;
}

bool em_driver_open(const char *path, const em_driver **driver, em_error *error) {
  if (!path || !*path) path = "libcuda.so.1";
  pthread_mutex_lock(&registry);
  em_driver *found = drivers;
  while (found && strcmp(found->path, path) != 0) found = found->next;
  if (!found && load(path, &found, error)) {
    found->next = drivers;
    drivers = found;
  }
  pthread_mutex_unlock(&registry);
  *driver = found;
  return found != NULL;
}

bool em_driver_probe(const char *path, int *version, int *devices, em_error *error) {
  const em_driver *driver;
  return em_driver_open(path, &driver, error) &&
         em_check_driver(driver, driver->cuDriverGetVersion(version), "cuDriverGetVersion", error) &&
         em_check_driver(driver, driver->cuDeviceGetCount(devices), "cuDeviceGetCount", error);
}

static em_context *find_context(const em_driver *driver, CUdevice ordinal) {
  em_context *context = contexts;
  while (context && (context->driver != driver || context->ordinal != ordinal)) context = context->next;
  return context;
}

bool em_context_acquire(const em_driver *driver, CUdevice ordinal, em_context **acquired, em_error *error) {
  pthread_mutex_lock(&registry);
  em_context *context = find_context(driver, ordinal);
  bool good = true;
  if (!context) {
    context = calloc(1, sizeof *context);
    if (context) {
      context->driver = driver;
      context->ordinal = ordinal;
      context->next = contexts;
      contexts = context;
    } else {
      good = em_fail(error, "out_of_memory", "no host memory for a context");
    }
  }
  if (good && atomic_load(&context->lost)) {
    good = false;
    *error = context->cause;
  }
  if (good && context->users == 0)
    good = em_check_driver(driver, driver->cuDevicePrimaryCtxRetain(&context->handle, ordinal),
                           "cuDevicePrimaryCtxRetain", error);
  if (good) {
    context->users++;
    *acquired = context;
  }
  pthread_mutex_unlock(&registry);
  return good;
}

void em_context_give_back(em_context *context) {
  const em_driver *driver = context->driver;
  pthread_mutex_lock(&registry);
  if (--context->users == 0) {
    driver->cuCtxSetCurrent(NULL);
    // Only a reset clears a sticky error; without one, other users of the primary context in this process keep it.
    if (atomic_load(&context->lost)) driver->cuDevicePrimaryCtxReset(context->ordinal);
    driver->cuDevicePrimaryCtxRelease(context->ordinal);
    atomic_store(&context->lost, false);
  }
  pthread_mutex_unlock(&registry);
}

void em_context_lose(em_context *context, em_error *error) {
  pthread_mutex_lock(&registry);
  if (!atomic_load(&context->lost)) {
    context->cause = *error;
    atomic_store(&context->lost, true);
  } else {
    *error = context->cause;
  }
  pthread_mutex_unlock(&registry);
}

void em_context_refine(em_context *context, const em_error *error) {
  pthread_mutex_lock(&registry);
  if (atomic_load(&context->lost)) context->cause = *error;
  pthread_mutex_unlock(&registry);
}
