// Compiles only where the declarations of cuda_api.h are NVIDIA's, and are what cuGetProcAddress gives for their names
// and versions:
//   nvcc -x c -DEXACTMAP_CHECK_API -c check_api.c
#include "cuda_api.h"

#include <cudaTypedefs.h>

#define CHECK(name, version, arguments)                                                                      \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&name), CUresult(*) arguments), #name);             \
  _Static_assert(__builtin_types_compatible_p(PFN_##name##_v##version, CUresult(*) arguments), #name " of " #version);
CUDA_API(CHECK)
CUDA_API_OF_NCCL(CHECK)
_Static_assert(sizeof(CUtensorMap) == 128 && _Alignof(CUtensorMap) == 128, "CUtensorMap");
