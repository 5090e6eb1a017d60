// What is asynchronous, piece by piece: async.test.ts says what each must give.
#include "lib/bulk.h"
#include "lib/tma.h"
#include "lib/warpgroup.h"
#include "lib/wgmma.h"

// A descriptor for each swizzle; then one with every address bit that fits.
KERNEL(descriptors, 1, uint64_t* y, uint32_t address, uint32_t leading, uint32_t stride) {
  y[0] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::none);
  y[1] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_128);
  y[2] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_64);
  y[3] = wgmma_descriptor(address, leading, stride, WgmmaSwizzle::bytes_32);
  y[4] = wgmma_descriptor(0xffffffffu, 0xffffffffu, 0xffffffffu, WgmmaSwizzle::bytes_128);
}

struct Box {
  uint32_t words[64][32];
  Mbarrier arrived;
};
static_assert(sizeof(Box) == 8200);

// Copies a box of 64 rows of 64 elements and gives its bytes as they lie in shared memory.
KERNEL_SHARED(copy_box, 32, 8200, TENSOR_MAP map, uint32_t* y, uint32_t column, uint32_t row) {
  DYNAMIC_SHARED(box, Box);
  if (threadIdx.x == 0) {
    mbarrier_init(box.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(box.arrived, sizeof box.words);
    tma_load(box.words, map, column, row, box.arrived);
  }
  __syncthreads();
  mbarrier_wait(box.arrived, 0);
  for (uint32_t r = 0; r < 64; r++) y[r * 32 + threadIdx.x] = box.words[r][threadIdx.x];
}

// Copies `bytes` from byte `first` of x on.
KERNEL_SHARED(copy_bytes, 32, 8200, const uint32_t* x, uint32_t* y, uint32_t first, uint32_t bytes) {
  DYNAMIC_SHARED(box, Box);
  if (threadIdx.x == 0) {
    mbarrier_init(box.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(box.arrived, bytes);
    bulk_load(box.words[1], x + first / 4, bytes, box.arrived);
  }
  __syncthreads();
  mbarrier_wait(box.arrived, 0);
  for (uint32_t i = threadIdx.x; i < bytes / 4; i += 32) y[i] = box.words[1 + i / 32][i % 32];
}

// Phases: y[i] counts what thread 0 has written before thread 32 + i saw phase i end.
KERNEL_SHARED(phases, 64, 16, uint32_t* y) {
  DYNAMIC_SHARED(barriers, Mbarrier[2]);
  SHARED(written, uint32_t[1]);
  if (threadIdx.x == 0) {
    mbarrier_init(barriers[0], 1);
    mbarrier_init(barriers[1], 32);
    mbarrier_fence_init();
    written[0] = 0;
  }
  __syncthreads();
  if (threadIdx.x == 0)
    for (uint32_t phase = 0; phase < 6; phase++) {
      mbarrier_wait(barriers[1], phase % 2 ^ 1);
      written[0] = phase + 1;
      mbarrier_arrive(barriers[0]);
    }
  if (threadIdx.x >= 32)
    for (uint32_t phase = 0; phase < 6; phase++) {
      mbarrier_wait(barriers[0], phase % 2);
      if (threadIdx.x == 32 + phase) y[phase] = written[0];
      mbarrier_arrive(barriers[1]);
    }
}

struct Operands {
  uint16_t a[64][64], b[256][64];
  Mbarrier arrived;
};
static_assert(sizeof(Operands) == 40968);

// y[m][n] = sum over 64 k of a(m,k) b(n,k), twice, the second time on top of the first: a warpgroup's sums as wgmma.h
// says who has which. The first group is still pending when the second is issued.
template <uint32_t SUMS>
DEVICE void product(const TensorMap& a, const TensorMap& b, float* y) {
  DYNAMIC_SHARED(operands, Operands);
  if (threadIdx.x == 0) {
    mbarrier_init(operands.arrived, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(operands.arrived, sizeof operands.a + 4 * SUMS * 64);
    tma_load(operands.a, a, 0, 0, operands.arrived);
    tma_load(operands.b, b, 0, 0, operands.arrived);
  }
  __syncthreads();
  mbarrier_wait(operands.arrived, 0);
  float sum[SUMS];
  wgmma_fence();
  for (uint32_t time = 0; time < 2; time++) {
    for (uint32_t k = 0; k < 64; k += 16)
      wgmma<WgmmaFormat::bf16>(sum, wgmma_rows(operands.a, k), wgmma_rows(operands.b, k), time > 0 || k > 0);
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_fence();
  }
  wgmma_wait<0>();
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (uint32_t i = 0; i < SUMS; i++)
    y[(row + i / 2 % 2 * 8) * 2 * SUMS + i / 4 * 8 + column + i % 2] = sum[i];
}

KERNEL_SHARED(product_128, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) { product<64>(a, b, y); }
KERNEL_SHARED(product_256, 128, 40968, TENSOR_MAP a, TENSOR_MAP b, float* y) { product<128>(a, b, y); }

// Giving back and taking registers changes nothing that is computed.
KERNEL(registers, 256, uint32_t* y) {
  if (threadIdx.x < 128)
    registers_give_back<40>();
  else
    registers_take<232>();
  y[threadIdx.x] = threadIdx.x;
}
