// Math and bit functions that CUDA has beside <cmath>. Included by simt.h. The fast approximations (__expf and
// friends) are the accurate functions here: a tolerance must hold for both.
#pragma once

__forceinline__ float __fadd_rn(float a, float b) { return a + b; }
__forceinline__ float __fsub_rn(float a, float b) { return a - b; }
__forceinline__ float __fmul_rn(float a, float b) { return a * b; }
__forceinline__ float __fdiv_rn(float a, float b) { return a / b; }
__forceinline__ float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
__forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
__forceinline__ float __fsqrt_rn(float x) { return sqrtf(x); }
__forceinline__ float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
__forceinline__ float rsqrtf(float x) { return __frsqrt_rn(x); }
__forceinline__ double rsqrt(double x) { return 1.0 / sqrt(x); }
__forceinline__ float __fdividef(float a, float b) { return a / b; }
__forceinline__ float __expf(float x) { return expf(x); }
__forceinline__ float __exp10f(float x) { return powf(10.0f, x); }
__forceinline__ float __logf(float x) { return logf(x); }
__forceinline__ float __log2f(float x) { return log2f(x); }
__forceinline__ float __log10f(float x) { return log10f(x); }
__forceinline__ float __powf(float x, float y) { return powf(x, y); }
__forceinline__ float __sinf(float x) { return sinf(x); }
__forceinline__ float __cosf(float x) { return cosf(x); }
// A NaN becomes zero.
__forceinline__ float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

__forceinline__ unsigned __float_as_uint(float x) { return simt::bits<unsigned>(x); }
__forceinline__ int __float_as_int(float x) { return simt::bits<int>(x); }
__forceinline__ float __uint_as_float(unsigned x) { return simt::bits<float>(x); }
__forceinline__ float __int_as_float(int x) { return simt::bits<float>(x); }
__forceinline__ long long __double_as_longlong(double x) { return simt::bits<long long>(x); }
__forceinline__ double __longlong_as_double(long long x) { return simt::bits<double>(x); }
__forceinline__ float __int2float_rn(int x) { return static_cast<float>(x); }
__forceinline__ float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
__forceinline__ float __double2float_rn(double x) { return static_cast<float>(x); }

namespace simt {
// Conversions to integers saturate, and a NaN becomes zero.
template <class T>
__forceinline__ T saturate(double x, double low, double high) {
  return x != x ? T{0} : x <= low ? static_cast<T>(low) : x >= high ? static_cast<T>(high) : static_cast<T>(x);
}
}  // namespace simt
#define SIMT_TO_INTEGER(suffix, round)                                                                           \
  __forceinline__ int __float2int_##suffix(float x) {                                                            \
    return simt::saturate<int>(round(x), -2147483648.0, 2147483647.0);                                           \
  }                                                                                                              \
  __forceinline__ unsigned __float2uint_##suffix(float x) {                                                      \
    return simt::saturate<unsigned>(round(x), 0.0, 4294967295.0);                                                \
  }
SIMT_TO_INTEGER(rn, rintf)
SIMT_TO_INTEGER(rz, truncf)
SIMT_TO_INTEGER(rd, floorf)
SIMT_TO_INTEGER(ru, ceilf)
#undef SIMT_TO_INTEGER

__forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
__forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
__forceinline__ int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
__forceinline__ int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ int __ffsll(long long x) { return __builtin_ffsll(x); }
__forceinline__ unsigned __brev(unsigned x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
__forceinline__ unsigned long long __brevll(unsigned long long x) {
  const unsigned long long low = __brev(static_cast<unsigned>(x));
  return low << 32 | __brev(static_cast<unsigned>(x >> 32));
}
// Each nibble of `selector` names one of the eight bytes of y:x; its top bit asks for the byte's sign instead.
__forceinline__ unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned nibble = selector >> (4 * i), byte = static_cast<unsigned>(bytes >> (8 * (nibble & 7))) & 255u;
    result |= (nibble & 8 ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
  }
  return result;
}
__forceinline__ unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
__forceinline__ int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
__forceinline__ unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
__forceinline__ unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
__forceinline__ unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
__forceinline__ int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}
__forceinline__ unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
  return c;
}
[[noreturn]] __forceinline__ void __trap(simt::Site site = simt::Site::current()) {
  simt::runtime->fail(simt::this_thread(), "__trap", site);
}

#define SIMT_MIN_MAX(type)                                                  \
  __forceinline__ type min(type a, type b) { return b < a ? b : a; }        \
  __forceinline__ type max(type a, type b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
__forceinline__ float min(float a, float b) { return fminf(a, b); }
__forceinline__ float max(float a, float b) { return fmaxf(a, b); }
__forceinline__ double min(double a, double b) { return fmin(a, b); }
__forceinline__ double max(double a, double b) { return fmax(a, b); }
__forceinline__ unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
__forceinline__ unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
__forceinline__ unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
__forceinline__ unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
