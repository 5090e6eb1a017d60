// matmul for more than a few rows, on tensor cores: y = activation(x w^T + bias) + residual.
//
// 4,096 rows of 4,096 by 4,096 weights: 137 GFLOP; lib/mma_tile.h says why 165 (f32) to 247 TFLOP/s, 0.83 to 0.56 ms,
// are the limit. 64 rows: the weights, 67 MB (f32) to 9.4 MB (q4_0), 14 to 2 us at 4.8 TB/s, as in matmul_vector.
#include "lib/mma_blocks.h"
#include "lib/mma_matmul.h"

KERNEL(matmul_mma_f32, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaRows<PartsF32>{{w, columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

KERNEL(matmul_mma_f16, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaRows<PartsF16>{{w, columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

KERNEL(matmul_mma_bf16, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaRows<PartsBF16>{{w, columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

// x in 16 bits too.
KERNEL(matmul_mma_f16_x16, 128, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaRows<PartsF16>{{w, columns, depth}}, MmaRows<PartsF16>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

KERNEL(matmul_mma_bf16_x16, 128, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaRows<PartsBF16>{{w, columns, depth}}, MmaRows<PartsBF16>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

KERNEL(matmul_mma_q8_0, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaBlocks<MmaIntegers<8>>(w, columns, depth), MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth,
             splits, split_depth);
}

KERNEL(matmul_mma_q4_0, 128, const float* x, const void* w, OPTIONAL const void* bias, OPTIONAL const float* residual,
       void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaBlocks<MmaIntegers<4>>(w, columns, depth), MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth,
             splits, split_depth);
}

using MmaE4M3_128 = MmaBlocks<MmaE4M3<ScaleF32Of128>>;
using MmaMXFP8 = MmaBlocks<MmaE4M3<ScaleE8M0Of32>>;

KERNEL(matmul_mma_e4m3_128, 128, const float* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaE4M3_128(w, columns, depth), MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits, split_depth);
}

KERNEL(matmul_mma_mxfp8, 128, const float* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaMXFP8(w, columns, depth), MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits, split_depth);
}

KERNEL(matmul_mma_nvfp4, 128, const float* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaBlocks<MmaNVFP4>(w, columns, depth), MmaRows<PartsF32>{{x, rows, depth}}, epilogue, depth, splits,
             split_depth);
}

// x in blocks too.
KERNEL(matmul_mma_e4m3_128_both, 128, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaE4M3_128(w, columns, depth), MmaE4M3_128(x, rows, depth), epilogue, depth, splits, split_depth);
}

KERNEL(matmul_mma_mxfp8_both, 128, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaMXFP8(w, columns, depth), MmaMXFP8(x, rows, depth), epilogue, depth, splits, split_depth);
}

KERNEL(matmul_mma_nvfp4_both, 128, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t bias_format,
       uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_mma(MmaBlocks<MmaNVFP4>(w, columns, depth), MmaBlocks<MmaNVFP4>(x, rows, depth), epilogue, depth, splits,
             split_depth);
}
