// matmul with x and w both in bf16 or f16, on Hopper: y = activation(x w^T + bias) + residual; the plain ones without
// anything behind the sum.
#include "lib/matmul_wgmma.h"

template <WgmmaFormat FORMAT, uint32_t COLUMNS, uint32_t STAGES, uint32_t BLOCKS, class Output>
DEVICE void forward(const TensorMap& x, const TensorMap& w, const Output& output, const Product& product) {
  matmul_wgmma<FORMAT, WgmmaMajor::k, WgmmaMajor::k, COLUMNS, STAGES, BLOCKS>(x, w, output, product);
}

KERNEL_CLUSTER(matmul_wgmma_bf16_2x256, 384, 217152, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::bf16, 256, 4, 2>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_bf16_2x192, 384, 184384, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::bf16, 192, 4, 2>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_bf16_128, 384, 217184, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::bf16, 128, 6, 1>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_bf16_64, 384, 217216, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::bf16, 64, 8, 1>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_f16_2x256, 384, 217152, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::f16, 256, 4, 2>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_f16_2x192, 384, 184384, 2, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
               OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
               uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::f16, 192, 4, 2>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_f16_128, 384, 217184, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::f16, 128, 6, 1>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_f16_64, 384, 217216, TENSOR_MAP x, TENSOR_MAP w, OPTIONAL const void* bias,
              OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
              uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  forward<WgmmaFormat::f16, 64, 8, 1>(x, w, ByThreads{epilogue}, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_plain_bf16_2x256, 384, 229440, 2, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::bf16, 256, 4, 2>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_plain_bf16_2x192, 384, 196672, 2, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::bf16, 192, 4, 2>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_plain_bf16_128, 384, 229472, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::bf16, 128, 6, 1>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_plain_bf16_64, 384, 229504, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::bf16, 64, 8, 1>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_plain_f16_2x256, 384, 229440, 2, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::f16, 256, 4, 2>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_wgmma_plain_f16_2x192, 384, 196672, 2, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
               uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::f16, 192, 4, 2>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_plain_f16_128, 384, 229472, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::f16, 128, 6, 1>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_wgmma_plain_f16_64, 384, 229504, TENSOR_MAP x, TENSOR_MAP w, TENSOR_MAP y, uint32_t rows,
              uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const ByBoxes boxes(y, output_format, false);
  forward<WgmmaFormat::f16, 64, 8, 1>(x, w, boxes, {rows, columns, depth, splits, split_depth});
}
