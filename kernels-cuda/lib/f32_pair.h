// Two numbers in f32 at a time, as instructions of Blackwell have them (PTX ISA, mul and fma with .f32x2): as many
// instructions as numbers would be too many beside tensor cores. Each rounds as one alone would.
#pragma once
#include "kernel.h"

#ifdef __CUDACC__
DEVICE float2 multiply_pair(float2 a, float2 b) {
  float2 product;
  asm("{\n"
      ".reg .b64 a, b;\n"
      "mov.b64 a, {%2, %3};\n"
      "mov.b64 b, {%4, %5};\n"
      "mul.rn.f32x2 a, a, b;\n"
      "mov.b64 {%0, %1}, a;\n"
      "}"
      : "=f"(product.x), "=f"(product.y)
      : "f"(a.x), "f"(a.y), "f"(b.x), "f"(b.y));
  return product;
}

// a b + c
DEVICE float2 multiply_add_pair(float2 a, float2 b, float2 c) {
  float2 sum;
  asm("{\n"
      ".reg .b64 a, b, c;\n"
      "mov.b64 a, {%2, %3};\n"
      "mov.b64 b, {%4, %5};\n"
      "mov.b64 c, {%6, %7};\n"
      "fma.rn.f32x2 a, a, b, c;\n"
      "mov.b64 {%0, %1}, a;\n"
      "}"
      : "=f"(sum.x), "=f"(sum.y)
      : "f"(a.x), "f"(a.y), "f"(b.x), "f"(b.y), "f"(c.x), "f"(c.y));
  return sum;
}
#else
inline float2 multiply_pair(float2 a, float2 b) { return make_float2(a.x * b.x, a.y * b.y); }
inline float2 multiply_add_pair(float2 a, float2 b, float2 c) {
  return make_float2(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y));
}
#endif
