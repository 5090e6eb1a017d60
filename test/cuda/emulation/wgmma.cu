// Descriptors and products of lib/wgmma.h, piece by piece: wgmma.test.ts says what each must give.
#include "lib/tma.h"
#include "lib/wgmma.h"

// A descriptor for each swizzle, one with every address bit that fits, and those of both majors.
KERNEL(descriptors, 1, uint64_t* y, uint32_t address, uint32_t leading, uint32_t stride) {
  y[0] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::none);
  y[1] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_128);
  y[2] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_64);
  y[3] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_32);
  y[4] = wgmma_descriptor(0xffffffffu, 0xffffffffu, 0xffffffffu, WgmmaSwizzle::bytes_128);
  y[5] = wgmma_k_major(address, 64);
  y[6] = wgmma_mn_major(address, 8192, 32);
}

// Operands of 128 bytes along k: as rows, or in boxes of 64 rows along k and 64 columns.
struct Operands {
  unsigned char a[64][128], b[256][128];
  Mbarrier arrived;
};
static_assert(sizeof(Operands) == 40968);

template <WgmmaMajor MAJOR>
DEVICE void load(unsigned char (*to)[128], const TensorMap& map, uint32_t rows, Mbarrier& arrived) {
  for (uint32_t column = 0; column < rows; column += MAJOR == WgmmaMajor::k ? rows : 64)
    tma_load(to + column, map, column, 0, arrived);
}

template <WgmmaMajor MAJOR>
constexpr __host__ __device__ uint32_t boxes_bytes(uint32_t rows) {
  return 128 * (MAJOR == WgmmaMajor::k ? rows : (rows + 63) / 64 * 64);
}

template <WgmmaFormat FORMAT, WgmmaMajor MAJOR>
DEVICE uint64_t descriptor(const void* tile, uint32_t k) {
  if constexpr (FORMAT == WgmmaFormat::e4m3)
    return wgmma_rows<1>(tile, k);
  else
    return MAJOR == WgmmaMajor::k ? wgmma_rows(tile, k) : wgmma_columns(tile, 64, k);
}

// y[m][n] = sum over k of a(m,k) b(n,k), twice, the second time on top of the first: a warpgroup's sums as wgmma.h
// says who has which. The first group is still pending when the second is issued.
template <WgmmaFormat FORMAT, WgmmaMajor A_MAJOR, WgmmaMajor B_MAJOR, uint32_t COLUMNS, bool REGISTERS>
DEVICE void product(const TensorMap& a, const TensorMap& b, float* y) {
  DYNAMIC_SHARED(operands, Operands);
  constexpr uint32_t SUMS = COLUMNS / 2, STEP = FORMAT == WgmmaFormat::e4m3 ? 32 : 16;
  if (threadIdx.x == 0) {
    mbarrier_init(operands.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(operands.arrived, boxes_bytes<A_MAJOR>(64) + boxes_bytes<B_MAJOR>(COLUMNS));
    load<A_MAJOR>(operands.a, a, 64, operands.arrived);
    load<B_MAJOR>(operands.b, b, COLUMNS, operands.arrived);
  }
  __syncthreads();
  mbarrier_wait(operands.arrived, 0);
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  uint32_t left[4][4] = {};
  if (REGISTERS)
#pragma unroll
    for (uint32_t step = 0; step < 4; step++)
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t r = row + i % 2 * 8, byte = 2 * (step * 16 + column + i / 2 * 8);
        left[step][i] = *reinterpret_cast<const uint32_t*>(&operands.a[r][(byte / 16 ^ r % 8) * 16 + byte % 16]);
      }
  float sum[SUMS];
  wgmma_fence();
#pragma unroll
  for (uint32_t time = 0; time < 2; time++) {
#pragma unroll
    for (uint32_t step = 0; step < 4; step++) {
      const bool add = time > 0 || step > 0;
      const uint64_t right = descriptor<FORMAT, B_MAJOR>(operands.b, step * STEP);
      if constexpr (REGISTERS)
        wgmma<FORMAT, B_MAJOR>(sum, left[step], right, add);
      else
        wgmma<FORMAT, A_MAJOR, B_MAJOR>(sum, descriptor<FORMAT, A_MAJOR>(operands.a, step * STEP), right, add);
    }
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_fence();
  }
  wgmma_wait<0>();
#pragma unroll
  for (uint32_t i = 0; i < SUMS; i++)
    y[(row + i / 2 % 2 * 8) * COLUMNS + i / 4 * 8 + column + i % 2] = sum[i];
}

KERNEL_SHARED(bf16_k_k_64, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::k, 64, false>(a, b, y);
}
KERNEL_SHARED(bf16_k_k_128, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::k, 128, false>(a, b, y);
}
KERNEL_SHARED(bf16_k_k_256, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::k, 256, false>(a, b, y);
}
KERNEL_SHARED(bf16_k_mn_96, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::mn, 96, false>(a, b, y);
}
KERNEL_SHARED(bf16_mn_k_64, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::mn, WgmmaMajor::k, 64, false>(a, b, y);
}
KERNEL_SHARED(bf16_mn_mn_192, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::mn, WgmmaMajor::mn, 192, false>(a, b, y);
}
KERNEL_SHARED(f16_mn_mn_256, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::f16, WgmmaMajor::mn, WgmmaMajor::mn, 256, false>(a, b, y);
}
KERNEL_SHARED(bf16_registers_k_64, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::k, 64, true>(a, b, y);
}
KERNEL_SHARED(bf16_registers_mn_128, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::bf16, WgmmaMajor::k, WgmmaMajor::mn, 128, true>(a, b, y);
}
KERNEL_SHARED(e4m3_k_k_64, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::e4m3, WgmmaMajor::k, WgmmaMajor::k, 64, false>(a, b, y);
}
KERNEL_SHARED(e4m3_k_k_192, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) {
  product<WgmmaFormat::e4m3, WgmmaMajor::k, WgmmaMajor::k, 192, false>(a, b, y);
}

// y = a b^T as above where threads have written a's tile, the unit matrix, to shared memory themselves.
template <WgmmaFormat FORMAT>
DEVICE void stored_product(const TensorMap& b, float* y) {
  DYNAMIC_SHARED(operands, Operands);
  constexpr uint16_t ONE = FORMAT == WgmmaFormat::bf16 ? 0x3f80 : 0x3c00;
  for (uint32_t i = threadIdx.x; i < 64 * 64; i += 128) {
    const uint32_t r = i / 64, byte = i % 64 * 2;
    *reinterpret_cast<uint16_t*>(&operands.a[r][(byte / 16 ^ r % 8) * 16 + byte % 16]) = r == i % 64 ? ONE : 0;
  }
  fence_proxy_async();
  if (threadIdx.x == 0) {
    mbarrier_init(operands.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(operands.arrived, 8192);
    tma_load(operands.b, b, 0, 0, operands.arrived);
  }
  __syncthreads();
  mbarrier_wait(operands.arrived, 0);
  float sum[32];
  wgmma_fence();
#pragma unroll
  for (uint32_t k = 0; k < 64; k += 16)
    wgmma<FORMAT>(sum, wgmma_rows(operands.a, k), wgmma_rows(operands.b, k), k > 0);
  wgmma_commit();
  wgmma_wait<0>();
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < 32; i++) y[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + column + i % 2] = sum[i];
}

KERNEL_SHARED(stored_operand, 128, 40968, TENSOR_MAP b, float* y) {
  stored_product<WgmmaFormat::bf16>(b, y);
}
