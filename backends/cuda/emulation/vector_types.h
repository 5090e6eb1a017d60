// CUDA's vector types with their sizes and alignments: a vector load at a misaligned address is a fault on a GPU, and
// the alignment lets -fsanitize=alignment report it here.
#pragma once
#include <cstdint>

#define SIMT_VECTOR_TYPES(name, element, alignment2, alignment4)                                    \
  struct name##1 {                                                                                  \
    element x;                                                                                      \
  };                                                                                                \
  struct alignas(alignment2) name##2 {                                                              \
    element x, y;                                                                                   \
  };                                                                                                \
  struct name##3 {                                                                                  \
    element x, y, z;                                                                                \
  };                                                                                                \
  struct alignas(alignment4) name##4 {                                                              \
    element x, y, z, w;                                                                             \
  };                                                                                                \
  inline name##1 make_##name##1(element x) { return {x}; }                                          \
  inline name##2 make_##name##2(element x, element y) { return {x, y}; }                            \
  inline name##3 make_##name##3(element x, element y, element z) { return {x, y, z}; }              \
  inline name##4 make_##name##4(element x, element y, element z, element w) { return {x, y, z, w}; }

SIMT_VECTOR_TYPES(char, signed char, 2, 4)
SIMT_VECTOR_TYPES(uchar, unsigned char, 2, 4)
SIMT_VECTOR_TYPES(short, short, 4, 8)
SIMT_VECTOR_TYPES(ushort, unsigned short, 4, 8)
SIMT_VECTOR_TYPES(int, int, 8, 16)
SIMT_VECTOR_TYPES(uint, unsigned int, 8, 16)
SIMT_VECTOR_TYPES(longlong, long long, 16, 16)
SIMT_VECTOR_TYPES(ulonglong, unsigned long long, 16, 16)
SIMT_VECTOR_TYPES(float, float, 8, 16)
SIMT_VECTOR_TYPES(double, double, 16, 16)
#undef SIMT_VECTOR_TYPES

struct dim3 {
  unsigned int x = 1, y = 1, z = 1;
};
