// tcgen05 and tensor memory, piece by piece: tcgen05.test.ts says what each must give.
#include "lib/tcgen05.h"
#include "lib/tma.h"

// A descriptor for each swizzle; then one with every address bit that fits.
KERNEL(shared_descriptors, 1, uint64_t* y, uint32_t address, uint32_t leading, uint32_t stride) {
  y[0] = tcgen05_descriptor(address, leading, stride, Tcgen05Swizzle::none);
  y[1] = tcgen05_descriptor(address, leading, stride, Tcgen05Swizzle::bytes_128);
  y[2] = tcgen05_descriptor(address, leading, stride, Tcgen05Swizzle::bytes_64);
  y[3] = tcgen05_descriptor(address, leading, stride, Tcgen05Swizzle::bytes_32);
  y[4] = tcgen05_descriptor(0xffffffffu, 0xffffffffu, 0xffffffffu, Tcgen05Swizzle::bytes_128);
}

KERNEL(instruction_descriptors, 1, uint32_t* y, uint32_t rows, uint32_t columns, uint32_t scale_byte) {
  y[0] = tcgen05_instruction(Tcgen05Format::f16, rows, columns);
  y[1] = tcgen05_instruction(Tcgen05Format::bf16, rows, columns);
  y[2] = tcgen05_instruction(Tcgen05Format::e4m3, rows, columns);
  y[3] = tcgen05_instruction(Tcgen05Format::mxfp8, rows, columns, scale_byte);
  y[4] = tcgen05_instruction(Tcgen05Format::nvfp4, rows, columns);
  y[5] = tcgen05_instruction(Tcgen05Format::bf16, rows, columns) | TCGEN05_A_COLUMNS | TCGEN05_B_COLUMNS;
}

constexpr uint32_t ROW_BYTES = 128, STEPS = ROW_BYTES / TCGEN05_BYTES;

struct Operands {
  uint8_t a[128][ROW_BYTES], b[256][ROW_BYTES];
  uint32_t scales[STEPS][3][128];  // of a and twice of b, for lib/tcgen05.h
  Mbarrier arrived, done;
  uint32_t sums;
};
static_assert(sizeof(Operands) == 55320);

// y[m][n] = sum over the rows' 128 bytes of a(m,k) b(n,k), twice, the second time on top of the first. `scales` has the
// words of a's rows, then of b's: for mxfp8 a row's four scales, for nvfp4 those of each step.
template <Tcgen05Format FORMAT>
DEVICE void product(const TensorMap& a, const TensorMap& b, const uint32_t* scales, float* y, uint32_t columns) {
  DYNAMIC_SHARED(operands, Operands);
  constexpr uint32_t WORDS = FORMAT == Tcgen05Format::nvfp4 ? STEPS : 1, TAKEN = 512, SCALES_A = 256, SCALES_B = 264;
  const uint32_t warp = threadIdx.x / 32;
  if (warp == 0) {
    tmem_alloc(operands.sums, TAKEN);
    tmem_relinquish();
  }
  if (threadIdx.x == 32) {
    mbarrier_init(operands.arrived, 1);
    mbarrier_init(operands.done, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(operands.arrived, (128 + columns) * ROW_BYTES);
    tma_load(operands.a, a, 0, 0, operands.arrived);
    tma_load(operands.b, b, 0, 0, operands.arrived);
  }
  if constexpr (tcgen05_scaled(FORMAT)) {
    const uint32_t r = threadIdx.x, place = r % 32 * 4 + r / 32;
    for (uint32_t step = 0; step < WORDS; step++)
      for (uint32_t part = 0; part < 3; part++)
        operands.scales[step][part][place] = part * 128 + r < 128 + columns ? scales[(part * 128 + r) * WORDS + step] : 0;
    fence_proxy_async();
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  const uint32_t sums = operands.sums;
  if (threadIdx.x == 64) {
    mbarrier_wait(operands.arrived, 0);
    for (uint32_t time = 0; time < 2; time++)
      for (uint32_t step = 0; step < STEPS; step++) {
        const uint64_t rows_a = tcgen05_rows(operands.a, step * TCGEN05_BYTES);
        const uint64_t rows_b = tcgen05_rows(operands.b, step * TCGEN05_BYTES);
        const bool add = time > 0 || step > 0;
        if constexpr (tcgen05_scaled(FORMAT)) {
          // A step's scales take the place of the last one's, which its product has read by then.
          if (step < WORDS) {
            tcgen05_copy_words(sums + SCALES_A, tcgen05_words(operands.scales[step][0]));
            tcgen05_copy_words(sums + SCALES_B, tcgen05_words(operands.scales[step][1]));
            tcgen05_copy_words(sums + SCALES_B + 4, tcgen05_words(operands.scales[step][2]));
          }
          const uint32_t byte = FORMAT == Tcgen05Format::mxfp8 ? step : 0;
          tcgen05_mma_scaled<FORMAT>(sums, rows_a, rows_b, tcgen05_instruction(FORMAT, 128, columns, byte),
                                     sums + SCALES_A, sums + SCALES_B, add);
        } else {
          tcgen05_mma<FORMAT>(sums, rows_a, rows_b, tcgen05_instruction(FORMAT, 128, columns), add);
        }
      }
    tcgen05_commit(operands.done);
  }
  mbarrier_wait(operands.done, 0);
  tcgen05_fence_after();
  for (uint32_t first = 0; first < columns; first += 32) {
    float loaded[32];
    tmem_load(loaded, tmem_lane(sums + first, warp * 32));
    tmem_wait(loaded);
    for (uint32_t i = 0; i < 32 && first + i < columns; i++) y[threadIdx.x * columns + first + i] = loaded[i];
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp == 0) tmem_free(sums, TAKEN);
}

// y[m][n] = sum over 64 k of a(m,k) b(n,k), a in tensor memory: `words` has the words of a's rows. Columns of b are rows of
// its memory, `columns` of them.
struct LeftStored {
  uint16_t b[2][64][64];
  Mbarrier arrived, done;
  uint32_t sums;
};
static_assert(sizeof(LeftStored) == 16408);

template <Tcgen05Format FORMAT>
DEVICE void product_ts(const TensorMap& b, const uint32_t* words, float* y) {
  DYNAMIC_SHARED(shared, LeftStored);
  constexpr uint32_t COLUMNS = 128, LEFT = 256, TAKEN = 512, DEPTH = 64;
  const uint32_t warp = threadIdx.x / 32;
  if (warp == 0) {
    tmem_alloc(shared.sums, TAKEN);
    tmem_relinquish();
  }
  if (threadIdx.x == 32) {
    mbarrier_init(shared.arrived, 1);
    mbarrier_init(shared.done, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(shared.arrived, sizeof shared.b);
    for (uint32_t box = 0; box < 2; box++) tma_load(shared.b[box], b, 64 * box, 0, shared.arrived);
  }
  __syncthreads();
  const uint32_t sums = shared.sums;
  for (uint32_t first = 0; first < DEPTH / 2; first += 16) {
    uint32_t stored[16];
    for (uint32_t i = 0; i < 16; i++) stored[i] = words[threadIdx.x * DEPTH / 2 + first + i];
    tmem_store(tmem_lane(sums + LEFT + first, warp * 32), stored);
  }
  tmem_wait_stores();
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (threadIdx.x == 64) {
    mbarrier_wait(shared.arrived, 0);
    for (uint32_t k = 0; k < DEPTH; k += 16)
      tcgen05_mma_ts<FORMAT>(sums, sums + LEFT + k / 2, tcgen05_columns(shared.b, sizeof shared.b[0], k),
                             tcgen05_instruction(FORMAT, 128, COLUMNS) | TCGEN05_B_COLUMNS, k > 0);
    tcgen05_commit(shared.done);
  }
  mbarrier_wait(shared.done, 0);
  tcgen05_fence_after();
  for (uint32_t first = 0; first < COLUMNS; first += 16) {
    float loaded[16];
    tmem_load(loaded, tmem_lane(sums + first, warp * 32));
    tmem_wait(loaded);
    for (uint32_t i = 0; i < 16; i++) y[threadIdx.x * COLUMNS + first + i] = loaded[i];
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp == 0) tmem_free(sums, TAKEN);
}

KERNEL_SHARED(product_ts_f16, 128, 16408, TENSOR_MAP b, const uint32_t* words, float* y) {
  product_ts<Tcgen05Format::f16>(b, words, y);
}
KERNEL_SHARED(product_ts_bf16, 128, 16408, TENSOR_MAP b, const uint32_t* words, float* y) {
  product_ts<Tcgen05Format::bf16>(b, words, y);
}

KERNEL_SHARED(product_f16, 128, 55320, TENSOR_MAP a, TENSOR_MAP b, const uint32_t* scales, float* y, uint32_t columns) {
  product<Tcgen05Format::f16>(a, b, scales, y, columns);
}
KERNEL_SHARED(product_bf16, 128, 55320, TENSOR_MAP a, TENSOR_MAP b, const uint32_t* scales, float* y,
              uint32_t columns) {
  product<Tcgen05Format::bf16>(a, b, scales, y, columns);
}
KERNEL_SHARED(product_e4m3, 128, 55320, TENSOR_MAP a, TENSOR_MAP b, const uint32_t* scales, float* y,
              uint32_t columns) {
  product<Tcgen05Format::e4m3>(a, b, scales, y, columns);
}
KERNEL_SHARED(product_mxfp8, 128, 55320, TENSOR_MAP a, TENSOR_MAP b, const uint32_t* scales, float* y,
              uint32_t columns) {
  product<Tcgen05Format::mxfp8>(a, b, scales, y, columns);
}
KERNEL_SHARED(product_nvfp4, 128, 55320, TENSOR_MAP a, TENSOR_MAP b, const uint32_t* scales, float* y,
              uint32_t columns) {
  product<Tcgen05Format::nvfp4>(a, b, scales, y, columns);
}
