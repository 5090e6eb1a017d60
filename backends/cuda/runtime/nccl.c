// Opens NCCL libraries and resolves the functions of nccl_api.h.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static em_nccl *libraries;

// The first with a configuration whose size the library heeds, and all functions of the list.
enum { REQUIRED_VERSION = 21800 };

static bool resolve(em_nccl *nccl, void *library, em_error *error) {
#define RESOLVE(name, result, arguments)                                                                  \
  {                                                                                                       \
    void *found = dlsym(library, #name);                                                                  \
    if (!found)                                                                                           \
      return em_fail(error, "unsupported", "'%s' has no " #name "; install NCCL 2.18 or newer", nccl->path); \
    memcpy(&nccl->name, &found, sizeof found);                                                            \
  }
  NCCL_API(RESOLVE)
#undef RESOLVE
  if (!em_check_nccl(nccl, NULL, nccl->ncclGetVersion(&nccl->version), "ncclGetVersion", error)) return false;
  return nccl->version >= REQUIRED_VERSION ||
         em_fail(error, "unsupported", "'%s' is NCCL %d.%d.%d; install 2.18 or newer", nccl->path,
                 nccl->version / 10000, nccl->version / 100 % 100, nccl->version % 100);
}

static bool load(const char *path, em_nccl **loaded, em_error *error) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return em_fail(error, "not_found", "no NCCL: %s; install NCCL, or set EXACTMAP_TRANSPORT=host",
                   reason ? reason : path);
  }
  em_nccl *nccl = calloc(1, sizeof *nccl);
  if (nccl) nccl->path = strdup(path);
  const bool good = nccl && nccl->path ? resolve(nccl, library, error)
                                       : em_fail(error, "out_of_memory", "no host memory for NCCL's table");
  if (!good) {
    if (nccl) free(nccl->path);
    free(nccl);
    dlclose(library);
    return false;
  }
  *loaded = nccl;
  return true;
}

bool em_nccl_open(const char *path, const em_nccl **nccl, em_error *error) {
  if (!path || !*path) path = "libnccl.so.2";
  pthread_mutex_lock(&registry);
  em_nccl *found = libraries;
  while (found && strcmp(found->path, path) != 0) found = found->next;
  if (!found && load(path, &found, error)) {
    found->next = libraries;
    libraries = found;
  }
  pthread_mutex_unlock(&registry);
  *nccl = found;
  return found != NULL;
}

bool em_nccl_probe(const char *path, int *version, em_error *error) {
  const em_nccl *nccl;
  if (!em_nccl_open(path, &nccl, error)) return false;
  *version = nccl->version;
  return true;
}

bool em_nccl_make_id(const char *path, uint8_t id[EM_NCCL_ID_BYTES], em_error *error) {
  const em_nccl *nccl;
  ncclUniqueId made;
  _Static_assert(sizeof made == EM_NCCL_ID_BYTES, "as NCCL defines it");
  if (!em_nccl_open(path, &nccl, error) ||
      !em_check_nccl(nccl, NULL, nccl->ncclGetUniqueId(&made), "ncclGetUniqueId", error))
    return false;
  memcpy(id, &made, sizeof made);
  return true;
}

bool em_check_nccl(const em_nccl *nccl, ncclComm_t communicator, ncclResult_t result, const char *call,
                   em_error *error) {
  if (result == ncclSuccess) return true;
  const char *more = nccl->ncclGetLastError(communicator);
  em_fail(error, result == ncclInvalidArgument || result == ncclInvalidUsage ? "validation" : "io",
          "%s: %s%s%s", call, nccl->ncclGetErrorString(result), more && *more ? ": " : "", more ? more : "");
  error->call = call;
  return false;
}
