// Opens the driver as the product does: by path, every function through cuGetProcAddress.
#pragma once
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include "../../../backends/cuda/runtime/cuda_api.h"

#define DECLARE(name, version, arguments) static CUresult(*name) arguments;
CUDA_API(DECLARE)
CUDA_API_OF_NCCL(DECLARE)
#undef DECLARE

static CUresult (*resolve)(const char*, void**, int, cuuint64_t, int*);
static const char* (*message)();
static int (*set_order)(const char*);

template <class T>
void find_symbol(void* driver, const char* name, T& symbol) {
  symbol = reinterpret_cast<T>(dlsym(driver, name));
  if (!symbol) std::exit((std::fprintf(stderr, "the driver has no %s\n", name), 2));
}

inline void open_driver(const char* path) {
  void* driver = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!driver) std::exit((std::fprintf(stderr, "%s\n", dlerror()), 2));
  const int* emulated;
  find_symbol(driver, "exactmap_emulated", emulated);
  if (*emulated != 1) std::exit(2);
  find_symbol(driver, "cuGetProcAddress_v2", resolve);
  find_symbol(driver, "exactmap_emulated_message", message);
  find_symbol(driver, "exactmap_emulated_set_order", set_order);
  int status;
#define RESOLVE(name, version, arguments) \
  if (resolve(#name, reinterpret_cast<void**>(&name), version, 0, &status)) std::exit(2);
  CUDA_API(RESOLVE)
  CUDA_API_OF_NCCL(RESOLVE)
#undef RESOLVE
}
