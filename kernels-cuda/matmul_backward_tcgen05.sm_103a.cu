// Gradients of matmul with both operands in bf16 or f16, on Blackwell. Those of weights are added to what is there.
//
// 4,096 rows of 4,096 by 4,096 weights are 69 us each, as the forward product (lib/matmul_tcgen05.h): operands of
// either major have the same way through L2 and shared memory. Adding to dw reads and writes 67 MB of f32 each, 17 us
// at 8 TB/s, by the copy engine while other tiles are multiplied.
#include "lib/matmul_tcgen05.h"

// dx[t,k] = sum over n of dy[t,n] w[n,k]: the columns k are neighbours in w.
template <Tcgen05Format FORMAT, uint32_t CTAS, uint32_t COLUMNS, uint32_t STAGES>
using Input = Way<FORMAT, CTAS, COLUMNS, STAGES, Major::k, Major::mn>;

// dw[n,k] += sum over t of dy[t,n] x[t,k]: rows n and columns k are neighbours in dy and x.
template <Tcgen05Format FORMAT, uint32_t CTAS, uint32_t COLUMNS, uint32_t STAGES>
using Weight = Way<FORMAT, CTAS, COLUMNS, STAGES, Major::mn, Major::mn>;

static_assert(RING_BYTES<Input<Tcgen05Format::bf16, 2, 256, 6>, RowsByBoxes> == 231424);
static_assert(RING_BYTES<Input<Tcgen05Format::bf16, 1, 128, 6>, RowsByBoxes> == 231424);

KERNEL_CLUSTER(matmul_backward_input_tcgen05_bf16_pair_256, 192, 231424, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const RowsByBoxes boxes(y, output_format, false);
  matmul_tcgen05<Input<Tcgen05Format::bf16, 2, 256, 6>>({dy, w}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_tcgen05_bf16_128, 192, 231424, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const RowsByBoxes boxes(y, output_format, false);
  matmul_tcgen05<Input<Tcgen05Format::bf16, 1, 128, 6>>({dy, w}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_input_tcgen05_f16_pair_256, 192, 231424, 2, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
               uint32_t split_depth) {
  const RowsByBoxes boxes(y, output_format, false);
  matmul_tcgen05<Input<Tcgen05Format::f16, 2, 256, 6>>({dy, w}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_input_tcgen05_f16_128, 192, 231424, TENSOR_MAP dy, TENSOR_MAP w, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t output_format, uint32_t splits,
              uint32_t split_depth) {
  const RowsByBoxes boxes(y, output_format, false);
  matmul_tcgen05<Input<Tcgen05Format::f16, 1, 128, 6>>({dy, w}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_tcgen05_bf16_pair_256, 192, 231424, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const RowsByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  matmul_tcgen05<Weight<Tcgen05Format::bf16, 2, 256, 6>>({dy, x}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_tcgen05_bf16_128, 192, 231424, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const RowsByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  matmul_tcgen05<Weight<Tcgen05Format::bf16, 1, 128, 6>>({dy, x}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_CLUSTER(matmul_backward_weight_tcgen05_f16_pair_256, 192, 231424, 2, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
               uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
               uint32_t split_depth) {
  const RowsByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  matmul_tcgen05<Weight<Tcgen05Format::f16, 2, 256, 6>>({dy, x}, boxes, {rows, columns, depth, splits, split_depth});
}

KERNEL_SHARED(matmul_backward_weight_tcgen05_f16_128, 192, 231424, TENSOR_MAP dy, TENSOR_MAP x, TENSOR_MAP y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t accumulate, uint32_t splits,
              uint32_t split_depth) {
  const RowsByBoxes boxes(y, FORMAT_F32, accumulate != 0);
  matmul_tcgen05<Weight<Tcgen05Format::f16, 1, 128, 6>>({dy, x}, boxes, {rows, columns, depth, splits, split_depth});
}
