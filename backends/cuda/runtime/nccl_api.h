// The part of NCCL's C API that the runtime uses, declared here so that it builds without NCCL. The runtime opens
// libnccl.so.2 when it runs. The emulated NCCL (../emulation/nccl) exports this very list.
#pragma once
#include "cuda_api.h"

#ifdef __cplusplus
extern "C" {
#endif
typedef int ncclResult_t;
typedef int ncclDataType_t;
typedef struct ncclComm *ncclComm_t;
// Passed by value.
typedef struct ncclUniqueId {
  char internal[128];
} ncclUniqueId;
// As of NCCL 2.17: libraries take as many bytes as `size` says, and their defaults for what they have beyond.
typedef struct ncclConfig_t {
  size_t size;
  unsigned int magic, version;
  int blocking, cgaClusterSize, minCTAs, maxCTAs;
  const char *netName;
} ncclConfig_t;
enum { NCCL_CONFIG_VERSION = 21700 };
#define NCCL_CONFIG_MAGIC 0xcafebeefu
#define NCCL_CONFIG_UNDEFINED (-0x7fffffff - 1)
enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
};
enum { ncclInt8 = 0 };
#ifdef __cplusplus
}
#endif

// X(name, result, arguments)
#define NCCL_API(X)                                                                                           \
  X(ncclGetVersion, ncclResult_t, (int *))                                                                    \
  X(ncclGetErrorString, const char *, (ncclResult_t))                                                         \
  X(ncclGetLastError, const char *, (ncclComm_t))                                                             \
  X(ncclGetUniqueId, ncclResult_t, (ncclUniqueId *))                                                          \
  X(ncclCommInitRankConfig, ncclResult_t, (ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *))             \
  X(ncclCommFinalize, ncclResult_t, (ncclComm_t))                                                             \
  X(ncclCommDestroy, ncclResult_t, (ncclComm_t))                                                              \
  X(ncclCommAbort, ncclResult_t, (ncclComm_t))                                                                \
  X(ncclCommGetAsyncError, ncclResult_t, (ncclComm_t, ncclResult_t *))                                        \
  X(ncclGroupStart, ncclResult_t, (void))                                                                     \
  X(ncclGroupEnd, ncclResult_t, (void))                                                                       \
  X(ncclSend, ncclResult_t, (const void *, size_t, ncclDataType_t, int, ncclComm_t, CUstream))                \
  X(ncclRecv, ncclResult_t, (void *, size_t, ncclDataType_t, int, ncclComm_t, CUstream))
