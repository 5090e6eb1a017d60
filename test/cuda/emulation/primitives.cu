// One kernel for each family of primitives; primitives.test.ts knows what they write.
#include "lib/storage.h"

KERNEL(shuffles, 64, uint32_t* out, uint32_t width) {
  const uint32_t t = threadIdx.x, lane = t % 32, w = width;
  out[4 * t] = __shfl_sync(FULL_WARP, t, static_cast<int>(lane * 7 + 3), static_cast<int>(w));
  out[4 * t + 1] = __shfl_up_sync(FULL_WARP, t, 3, static_cast<int>(w));
  out[4 * t + 2] = __shfl_down_sync(FULL_WARP, t, 5, static_cast<int>(w));
  out[4 * t + 3] = __shfl_xor_sync(FULL_WARP, t, 9, static_cast<int>(w));
}

KERNEL(wide_shuffles, 32, double* doubles, uint64_t* words, float* singles) {
  const uint32_t t = threadIdx.x;
  doubles[t] = __shfl_xor_sync(FULL_WARP, t * 1.5, 1);
  words[t] = __shfl_sync(FULL_WARP, (uint64_t{t} << 40) + t, 31);
  singles[t] = __shfl_down_sync(FULL_WARP, t * 0.25f, 16);
}

// Odd and even lanes call the same functions under masks of their own, in different branches.
KERNEL(partial_masks, 32, uint32_t* out) {
  const uint32_t t = threadIdx.x;
  if (t % 2 == 0) {
    uint32_t sum = t;
    for (int s = 16; s > 1; s /= 2) sum += __shfl_xor_sync(0x55555555u, sum, s);
    out[t] = sum;
    __syncwarp(0x55555555u);
    out[t] += 1000 * __popc(__ballot_sync(0x55555555u, t > 9));
  } else {
    out[t] = __reduce_add_sync(0xaaaaaaaau, t);
    out[t] += 1000 * static_cast<uint32_t>(__all_sync(0xaaaaaaaau, t < 32));
    out[t] += 10000 * static_cast<uint32_t>(__any_sync(0xaaaaaaaau, t > 40));
  }
}

KERNEL(votes, 32, uint32_t* out) {
  const uint32_t t = threadIdx.x;
  int equal = 0;
  out[t] = __ballot_sync(FULL_WARP, t % 3 == 0);
  out[32 + t] = static_cast<uint32_t>(__any_sync(FULL_WARP, t == 31) + 2 * __all_sync(FULL_WARP, t == 31));
  out[64 + t] = __match_any_sync(FULL_WARP, t % 5);
  out[96 + t] = __match_all_sync(FULL_WARP, 7, &equal);
  out[128 + t] = static_cast<uint32_t>(equal);
  out[160 + t] = __match_all_sync(FULL_WARP, static_cast<int>(t / 31), &equal) + static_cast<uint32_t>(equal);
}

KERNEL(reductions, 32, uint32_t* out) {
  const uint32_t t = threadIdx.x, x = t * 0x9e3779b9u;
  const int y = static_cast<int>(t) - 16;
  out[t] = __reduce_add_sync(FULL_WARP, x);
  out[32 + t] = __reduce_min_sync(FULL_WARP, x | 5u);
  out[64 + t] = __reduce_max_sync(FULL_WARP, x);
  out[96 + t] = static_cast<uint32_t>(__reduce_min_sync(FULL_WARP, y));
  out[128 + t] = static_cast<uint32_t>(__reduce_max_sync(FULL_WARP, y));
  out[160 + t] = __reduce_and_sync(FULL_WARP, x | 1u);
  out[192 + t] = __reduce_or_sync(FULL_WARP, x & 0xffu);
  out[224 + t] = __reduce_xor_sync(FULL_WARP, x);
}

// The second warp has 16 lanes, and a full mask means those.
KERNEL(partial_warp, 48, uint32_t* out) {
  const uint32_t t = threadIdx.x, mask = t < 32 ? FULL_WARP : 0xffffu;
  uint32_t sum = t;
  for (int s = 8; s > 0; s /= 2) sum += __shfl_down_sync(mask, sum, static_cast<unsigned>(s), 16);
  out[t] = sum;
  out[48 + t] = __ballot_sync(FULL_WARP, 1);
}

KERNEL(barriers, 96, uint32_t* out) {
  SHARED(values, uint32_t[96]);
  const uint32_t t = threadIdx.x;
  uint32_t x = t;
  for (int round = 0; round < 5; round++) {
    values[t] = x;
    __syncthreads();
    x = values[(t + 1) % 96] + 1;
    __syncthreads();
  }
  out[4 * t] = x;
  out[4 * t + 1] = static_cast<uint32_t>(__syncthreads_count(t % 3 == 0));
  out[4 * t + 2] = static_cast<uint32_t>(__syncthreads_and(t < 95) + 2 * __syncthreads_and(t < 96));
  out[4 * t + 3] = static_cast<uint32_t>(__syncthreads_or(t == 95) + 2 * __syncthreads_or(t == 96));
}

// Warps that skip a barrier's work still meet at it, whatever they did between.
KERNEL(warps_and_barriers, 128, uint32_t* out) {
  SHARED(sums, uint32_t[4]);
  const uint32_t t = threadIdx.x, warp = t / 32;
  uint32_t sum = t;
  for (int s = 16; s > 0; s /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, s);
  if (t % 32 == 0) sums[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    uint32_t total = t < 4 ? sums[t] : 0;
    total = __reduce_add_sync(FULL_WARP, total);
    if (t == 0) out[blockIdx.x] = total + blockIdx.x + gridDim.x * 1000000 + blockDim.x * 10000;
  }
}

KERNEL(atomics, 128, uint32_t* out, unsigned long long* wide, int32_t* negative) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&out[0], i);
  atomicMax(&out[1], i * 7 % 1001);
  atomicMin(&out[2], 5000 - i);
  atomicOr(&out[3], 1u << i % 32);
  atomicAnd(&out[4], ~(1u << i % 16));
  atomicXor(&out[5], i);
  out[16 + atomicAdd(&out[6], 1)] = i;
  atomicInc(&out[7], 99);
  atomicCAS(&out[8], 0u, i + 1);
  if (atomicExch(&out[9], 1u) == 0) atomicAdd(&out[10], 1);
  atomicSub(&out[11], 2);
  atomicAdd(wide, uint64_t{i} << 20);
  atomicMin(negative, -static_cast<int32_t>(i));
}

KERNEL(vector_types, 1, uint32_t* out, float4* vectors) {
  uint32_t i = 0;
#define LAYOUT(type) out[i++] = sizeof(type) * 100 + alignof(type)
  LAYOUT(char2), LAYOUT(char4), LAYOUT(uchar2), LAYOUT(uchar4), LAYOUT(short2), LAYOUT(short4), LAYOUT(ushort2);
  LAYOUT(ushort4), LAYOUT(int2), LAYOUT(int3), LAYOUT(int4), LAYOUT(uint2), LAYOUT(uint3), LAYOUT(uint4);
  LAYOUT(float2), LAYOUT(float3), LAYOUT(float4), LAYOUT(double2), LAYOUT(longlong2), LAYOUT(ulonglong2);
#undef LAYOUT
  const uint4 bits = make_uint4(1, 2, 3, 0x40800000u);
  vectors[0] = make_float4(1, 2, 3, __uint_as_float(bits.w));
  const float2 half = make_float2(__ldg(&vectors[0].y), __ldcs(&vectors[0].z));
  __stcs(&vectors[1], make_float4(half.x, half.y, 5, 6));
}

KERNEL(intrinsics, 1, uint32_t* out, uint32_t a, uint32_t b, float x) {
  out[0] = static_cast<uint32_t>(__popc(a));
  out[1] = static_cast<uint32_t>(__clz(static_cast<int>(b)));
  out[2] = static_cast<uint32_t>(__ffs(static_cast<int>(b)));
  out[3] = __brev(a);
  out[4] = __byte_perm(a, b, 0x7053);
  out[5] = __byte_perm(a, b, 0xf840);
  out[6] = __umulhi(a, b);
  out[7] = __funnelshift_l(a, b, 12);
  out[8] = __funnelshift_r(a, b, 12);
  out[9] = __float_as_uint(__fmaf_rn(x, x, -1.0f));
  out[10] = __float_as_uint(rsqrtf(16.0f));
  out[11] = static_cast<uint32_t>(__float2int_rn(2.5f));
  out[12] = static_cast<uint32_t>(__float2int_rz(-3.7f));
  out[13] = static_cast<uint32_t>(__float2int_rn(1e20f));
  out[14] = __float2uint_rn(-1.0f);
  out[15] = static_cast<uint32_t>(__float2int_rn(__uint_as_float(0x7fc00000u)));
  out[16] = min(a, 7u) + max(-3, 2);
  out[17] = static_cast<uint32_t>(__clz(0) + __ffs(0));
  out[18] = static_cast<uint32_t>(__dp4a(static_cast<int>(0x01ff0203u), static_cast<int>(0x02020202u), 10));
  out[19] = __float_as_uint(__fdiv_rn(1.0f, 3.0f));
  out[20] = __float_as_uint(__saturatef(-x)) + __float_as_uint(__saturatef(x * 10));
}

KERNEL(decode_halves, 256, float* f16, float* bf16) {
  const uint32_t i = blockIdx.x * 256 + threadIdx.x;
  f16[i] = f16_to_f32(i);
  bf16[i] = bf16_to_f32(i);
}
KERNEL(encode_halves, 256, const float* x, uint32_t* f16, uint32_t* bf16, uint32_t n) {
  const uint32_t i = blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  f16[i] = f32_to_f16(x[i]);
  bf16[i] = f32_to_bf16(x[i]);
}

// Every block but the last waits for the block after it.
KERNEL(chain, 64, uint32_t* flags) {
  const uint32_t b = blockIdx.x;
  if (threadIdx.x == 0) {
    uint32_t* next = &flags[b + 1];
    if (b + 1 < gridDim.x) simt::wait_until([=] { return simt::load_acquire(next) != 0; });
    simt::store_release(&flags[b], b + 1 < gridDim.x ? flags[b + 1] + 1 : 1);
  }
  __syncthreads();
}

KERNEL(sleeper, 32, uint32_t* flag) {
  if (threadIdx.x == 31) simt::store_release(flag, 7u);
  if (threadIdx.x == 0)
    while (simt::load_acquire(flag) != 7) __nanosleep(100);
}

KERNEL(parameters, 1, uint32_t* out, uint32_t a, int32_t b, float c, uint64_t d, OPTIONAL const float* none) {
  out[0] = a;
  out[1] = static_cast<uint32_t>(b);
  out[2] = __float_as_uint(c);
  out[3] = static_cast<uint32_t>(d >> 32);
  out[4] = static_cast<uint32_t>(d);
  out[5] = none == nullptr;
}

// Appends `value` to a list: the order of nodes and streams shows in it.
KERNEL(append, 1, uint32_t* list, uint32_t value) {
  list[++list[0]] = value;
}

KERNEL(slow, 1, uint32_t* out, uint32_t rounds) {
  volatile uint32_t x = 0;
  for (uint32_t i = 0; i < rounds; i++) x = x + i;
  *out = x;
}
