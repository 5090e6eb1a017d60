// Compiles only where the declarations of cuda_api.h are NVIDIA's:
//   cc -DEXACTMAP_CHECK_API -I<toolkit>/include -fsyntax-only check_api.c
#include "cuda_api.h"

#define CHECK(name, version, arguments)                                                               \
  _Static_assert(__builtin_types_compatible_p(__typeof__(&name), CUresult(*) arguments), #name);
CUDA_API(CHECK)
CUDA_API_OF_NCCL(CHECK)
_Static_assert(sizeof(CUtensorMap) == 128 && _Alignof(CUtensorMap) == 128, "CUtensorMap");
