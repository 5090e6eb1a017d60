// The part of the CUDA driver API that the runtime uses, declared here so that it builds without a CUDA toolkit. The
// runtime opens libcuda.so.1 when it runs and resolves each function through cuGetProcAddress at the version given.
// check_api.c compares every declaration with NVIDIA's cuda.h where a toolkit is installed. The emulated driver
// (backends/cuda/emulation) implements this very list.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef EXACTMAP_CHECK_API
#include <cuda.h>
#else
#ifdef __cplusplus
extern "C" {
#endif
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long cuuint64_t;
typedef int CUdevice_attribute;
typedef int CUfunction_attribute;
typedef int CUjit_option;
typedef int CUlibraryOption;
typedef int CUdriverProcAddressQueryResult;
typedef struct CUctx_st *CUcontext;
typedef struct CUfunc_st *CUfunction;
typedef struct CUlib_st *CUlibrary;
typedef struct CUkern_st *CUkernel;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
typedef int CUstreamCaptureStatus;
typedef int CUstreamCaptureMode;
typedef struct CUgraphEdgeData_st {
  unsigned char from_port, to_port, type, reserved[5];
} CUgraphEdgeData;
typedef void (*CUhostFn)(void *);
typedef uint32_t cuuint32_t;
typedef int CUtensorMapDataType;
typedef int CUtensorMapInterleave;
typedef int CUtensorMapSwizzle;
typedef int CUtensorMapL2promotion;
typedef int CUtensorMapFloatOOBfill;
typedef struct CUtensorMap_st {
#ifdef __cplusplus
  alignas(128)
#else
  _Alignas(128)
#endif
      cuuint64_t opaque[16];
} CUtensorMap;
typedef struct CUDA_KERNEL_NODE_PARAMS_v2_st {
  CUfunction func;
  unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  void **kernelParams;
  void **extra;
  CUkernel kern;
  CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS_v2;
typedef CUDA_KERNEL_NODE_PARAMS_v2 CUDA_KERNEL_NODE_PARAMS;
typedef int CUlaunchAttributeID;
typedef union CUlaunchAttributeValue_union {
  char pad[64];
  int cooperative;
} CUlaunchAttributeValue;
typedef struct CUDA_MEMCPY3D_v2_st {
  size_t srcXInBytes, srcY, srcZ, srcLOD;
  int srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  void *reserved0;
  size_t srcPitch, srcHeight;
  size_t dstXInBytes, dstY, dstZ, dstLOD;
  int dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  void *reserved1;
  size_t dstPitch, dstHeight;
  size_t WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D_v2;
typedef CUDA_MEMCPY3D_v2 CUDA_MEMCPY3D;
enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_DEINITIALIZED = 4,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_ILLEGAL_STATE = 401,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_LAUNCH_TIMEOUT = 702,
  CUDA_ERROR_ASSERT = 710,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
  CUDA_ERROR_NOT_PERMITTED = 800,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
  CUDA_ERROR_UNKNOWN = 999,
};
enum {
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
};
enum { CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };
enum { CU_LAUNCH_ATTRIBUTE_COOPERATIVE = 2 };
enum {
  CU_TENSOR_MAP_DATA_TYPE_UINT8 = 0,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32 = 7,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9,
  CU_TENSOR_MAP_INTERLEAVE_NONE = 0,
  CU_TENSOR_MAP_SWIZZLE_128B = 3,
  CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3,
  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0,
};
enum { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2 };
enum { CU_STREAM_NON_BLOCKING = 1, CU_EVENT_DISABLE_TIMING = 2 };
enum {
  CU_STREAM_CAPTURE_STATUS_NONE = 0,
  CU_STREAM_CAPTURE_STATUS_ACTIVE = 1,
  CU_STREAM_CAPTURE_STATUS_INVALIDATED = 2,
};
enum {
  CU_STREAM_CAPTURE_MODE_GLOBAL = 0,
  CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
  CU_STREAM_CAPTURE_MODE_RELAXED = 2,
};
#ifdef __cplusplus
}
#endif
#endif

// X(name asked of cuGetProcAddress, CUDA version of that declaration, arguments)
#define CUDA_API(X)                                                                                                  \
  X(cuGetErrorName, 6000, (CUresult, const char **))                                                                 \
  X(cuGetErrorString, 6000, (CUresult, const char **))                                                               \
  X(cuInit, 2000, (unsigned int))                                                                                    \
  X(cuDriverGetVersion, 2020, (int *))                                                                               \
  X(cuDeviceGetCount, 2000, (int *))                                                                                 \
  X(cuDeviceGet, 2000, (CUdevice *, int))                                                                            \
  X(cuDeviceGetName, 2000, (char *, int, CUdevice))                                                                  \
  X(cuDeviceGetAttribute, 2000, (int *, CUdevice_attribute, CUdevice))                                               \
  X(cuDeviceTotalMem, 3020, (size_t *, CUdevice))                                                                    \
  X(cuDevicePrimaryCtxRetain, 7000, (CUcontext *, CUdevice))                                                         \
  X(cuDevicePrimaryCtxRelease, 11000, (CUdevice))                                                                    \
  X(cuDevicePrimaryCtxReset, 11000, (CUdevice))                                                                      \
  X(cuCtxSetCurrent, 4000, (CUcontext))                                                                              \
  X(cuMemGetInfo, 3020, (size_t *, size_t *))                                                                        \
  X(cuMemAlloc, 3020, (CUdeviceptr *, size_t))                                                                       \
  X(cuMemFree, 3020, (CUdeviceptr))                                                                                  \
  X(cuMemAllocHost, 3020, (void **, size_t))                                                                         \
  X(cuMemFreeHost, 2000, (void *))                                                                                   \
  X(cuMemcpyHtoDAsync, 3020, (CUdeviceptr, const void *, size_t, CUstream))                                          \
  X(cuMemcpyDtoHAsync, 3020, (void *, CUdeviceptr, size_t, CUstream))                                                \
  X(cuMemcpyDtoDAsync, 3020, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                                           \
  X(cuMemsetD8Async, 3020, (CUdeviceptr, unsigned char, size_t, CUstream))                                           \
  X(cuStreamCreate, 2000, (CUstream *, unsigned int))                                                                \
  X(cuStreamDestroy, 4000, (CUstream))                                                                               \
  X(cuStreamSynchronize, 2000, (CUstream))                                                                           \
  X(cuStreamWaitEvent, 3020, (CUstream, CUevent, unsigned int))                                                      \
  X(cuEventCreate, 2000, (CUevent *, unsigned int))                                                                  \
  X(cuEventRecord, 2000, (CUevent, CUstream))                                                                        \
  X(cuEventQuery, 2000, (CUevent))                                                                                   \
  X(cuEventSynchronize, 2000, (CUevent))                                                                             \
  X(cuEventElapsedTime, 12080, (float *, CUevent, CUevent))                                                          \
  X(cuEventDestroy, 4000, (CUevent))                                                                                 \
  X(cuGraphCreate, 10000, (CUgraph *, unsigned int))                                                                 \
  X(cuGraphAddKernelNode, 12000,                                                                                     \
    (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *))                          \
  X(cuGraphKernelNodeSetAttribute, 11000, (CUgraphNode, CUlaunchAttributeID, const CUlaunchAttributeValue *))        \
  X(cuGraphAddMemcpyNode, 10000,                                                                                     \
    (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_MEMCPY3D *, CUcontext))                         \
  X(cuGraphInstantiateWithFlags, 11040, (CUgraphExec *, CUgraph, unsigned long long))                                \
  X(cuGraphUpload, 11010, (CUgraphExec, CUstream))                                                                   \
  X(cuGraphLaunch, 10000, (CUgraphExec, CUstream))                                                                   \
  X(cuGraphExecDestroy, 10000, (CUgraphExec))                                                                        \
  X(cuGraphDestroy, 10000, (CUgraph))                                                                                \
  X(cuStreamBeginCaptureToGraph, 12030,                                                                              \
    (CUstream, CUgraph, const CUgraphNode *, const CUgraphEdgeData *, size_t, CUstreamCaptureMode))                  \
  X(cuStreamGetCaptureInfo, 12030,                                                                                   \
    (CUstream, CUstreamCaptureStatus *, cuuint64_t *, CUgraph *, const CUgraphNode **, const CUgraphEdgeData **,     \
     size_t *))                                                                                                      \
  X(cuStreamEndCapture, 10000, (CUstream, CUgraph *))                                                                \
  X(cuLibraryLoadData, 12000,                                                                                        \
    (CUlibrary *, const void *, CUjit_option *, void **, unsigned int, CUlibraryOption *, void **, unsigned int))    \
  X(cuLibraryUnload, 12000, (CUlibrary))                                                                             \
  X(cuLibraryGetKernel, 12000, (CUkernel *, CUlibrary, const char *))                                                \
  X(cuKernelSetAttribute, 12000, (CUfunction_attribute, int, CUkernel, CUdevice))                                    \
  X(cuTensorMapEncodeTiled, 12000,                                                                                   \
    (CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,                 \
     const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,      \
     CUtensorMapFloatOOBfill))                                                                                       \
  X(cuLaunchKernel, 4000,                                                                                            \
    (CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,   \
     CUstream, void **, void **))

// What NCCL calls beside these; the emulated driver has it for the emulated NCCL.
#define CUDA_API_OF_NCCL(X)                                            \
  X(cuCtxGetCurrent, 4000, (CUcontext *))                              \
  X(cuCtxGetDevice, 2000, (CUdevice *))                                \
  X(cuMemGetAddressRange, 3020, (CUdeviceptr *, size_t *, CUdeviceptr)) \
  X(cuLaunchHostFunc, 10000, (CUstream, CUhostFn, void *))
