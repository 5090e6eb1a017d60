// What the kernels of the paged cache share: where a token of the cache lies, activations in any of their formats, and
// scores in the base-2 domain.
#pragma once
#include "epilogue.h"

constexpr uint32_t PAGE_TOKENS = 64;
constexpr uint32_t PADDING_ROW = 0xffffffffu;
// Below every score; finite, so that the difference of two is a number.
constexpr float MASKED = -3.0e38f;

struct PagedCache {
  const void* k_pool;          // [page][kv_head][64][dim], as v_pool
  const void* v_pool;
  const uint32_t* page_table;  // [sequence][pages]
  uint32_t pages, kv_heads, dim;

  // First element of a token's vector in either pool.
  DEVICE uint64_t at(uint32_t sequence, uint32_t kv_head, uint32_t token) const {
    const uint64_t page = page_table[static_cast<uint64_t>(sequence) * pages + token / PAGE_TOKENS];
    return ((page * kv_heads + kv_head) * PAGE_TOKENS + token % PAGE_TOKENS) * dim;
  }
};

// First token that a query at `position` sees; 0 is no window.
DEVICE uint32_t window_start(uint32_t position, uint32_t window) {
  return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

// Four neighbours of an activation; `format` is the same for the whole launch.
DEVICE float4 load4_of(uint32_t format, const void* data, uint64_t index) {
  if (format == FORMAT_F32) return F32::load4(data, 0, index);
  return format == FORMAT_F16 ? F16::load4(data, 0, index) : BF16::load4(data, 0, index);
}

DEVICE void store4_as(uint32_t format, void* data, uint64_t index, float4 x) {
  if (format == FORMAT_F32)
    F32::store4(data, index, x);
  else if (format == FORMAT_F16)
    F16::store4(data, index, x);
  else
    BF16::store4(data, index, x);
}

// How a dot product becomes log2 of a weight: queries are multiplied by `scale` beforehand. Without a cap that is
// log2(e) times the attention's scale; with one the dot product becomes x of cap * tanh(x), cap in the base-2 domain.
struct Scores {
  float scale, cap;

  // tanh(x) = 1 - 2 / (exp(2x) + 1), which past |x| = 10 is 1 in f32.
  DEVICE float score(float dot) const {
    if (cap == 0.0f) return dot;
    return cap * (1.0f - 2.0f / (expf(2.0f * fminf(fmaxf(dot, -10.0f), 10.0f)) + 1.0f));
  }
};

DEVICE float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + (a.z * b.z + a.w * b.w); }

DEVICE float4 times(float4 a, float s) { return make_float4(a.x * s, a.y * s, a.z * s, a.w * s); }

DEVICE void add_scaled(float4& sum, float s, float4 v) {
  sum.x += s * v.x;
  sum.y += s * v.y;
  sum.z += s * v.z;
  sum.w += s * v.w;
}
