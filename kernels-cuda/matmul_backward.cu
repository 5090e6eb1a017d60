// Gradients of matmul on the tensor core tiles of lib/mma_tile.h: the forward product with operands that lie otherwise
// in memory. Gradients of weights are added to what is there.
//
// 4,096 rows of 4,096 by 4,096 weights: 137 GFLOP each; lib/mma_tile.h says why 165 (f32) to 247 TFLOP/s, 0.83 to
// 0.56 ms, are the limit. Memory once: 101 MB (16 bits) to 268 MB, 21 to 56 us at 4.8 TB/s.
#include "lib/mma_matmul.h"

// dx[t,k] = sum over n of dy[t,n] w[n,k]: `rows` of dx, `columns` and the `depth` n.
template <class DY, class W>
DEVICE void backward_input(const void* dy, const void* w, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                           uint32_t depth, uint32_t splits, uint32_t split_depth) {
  matmul_mma(MmaColumns<W>{{w, depth, columns}}, MmaRows<DY>{{dy, rows, depth}}, epilogue, depth, splits, split_depth);
}

// dw[n,k] += sum over t of dy[t,n] x[t,k]: `rows` n of dw, `columns` k and the `depth` t.
template <class X>
DEVICE void backward_weight(const void* dy, const void* x, const Epilogue& epilogue, uint32_t rows, uint32_t columns,
                            uint32_t depth, uint32_t splits, uint32_t split_depth) {
  matmul_mma(MmaColumns<X>{{x, depth, columns}}, MmaColumns<X>{{dy, depth, rows}}, epilogue, depth, splits,
             split_depth);
}

KERNEL(matmul_backward_input_f32, 128, const void* dy, const void* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_input<PartsF32, PartsF32>(dy, w, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_input_f16, 128, const void* dy, const void* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_input<PartsF32, PartsF16>(dy, w, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_input_bf16, 128, const void* dy, const void* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_input<PartsF32, PartsBF16>(dy, w, epilogue, rows, columns, depth, splits, split_depth);
}

// dy in 16 bits too.
KERNEL(matmul_backward_input_f16_x16, 128, const void* dy, const void* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_input<PartsF16, PartsF16>(dy, w, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_input_bf16_x16, 128, const void* dy, const void* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_input<PartsBF16, PartsBF16>(dy, w, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_weight_f32, 128, const void* dy, const void* x, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_weight<PartsF32>(dy, x, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_weight_f16, 128, const void* dy, const void* x, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_weight<PartsF16>(dy, x, epilogue, rows, columns, depth, splits, split_depth);
}

KERNEL(matmul_backward_weight_bf16, 128, const void* dy, const void* x, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t accumulate, uint32_t splits,
       uint32_t split_depth) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, accumulate != 0);
  backward_weight<PartsBF16>(dy, x, epilogue, rows, columns, depth, splits, split_depth);
}
