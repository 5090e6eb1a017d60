// matmul_grouped and its gradient for x with both operands in bf16 or f16, on Blackwell: lib/matmul_tcgen05.h's
// product, whose pieces are tiles of one expert's rows. Rows of no expert are matmul_grouped_zero's.
//
// Limits are those of lib/matmul_tcgen05.h for full tiles; an expert's last one is half empty on the average: 1,024
// rows an expert leave 89% of pairs' 256. Few rows for many experts are limited by the weights' way from memory: 64
// experts of 2,048 by 1,408 in bf16 are 369 MB, 46 us at 8 TB/s, as long as products of 20,000 rows.
#include "lib/grouped_pieces.h"
#include "lib/matmul_tcgen05.h"

template <class W>
DEVICE void grouped(const Operands& operands, const uint32_t* offsets, uint32_t experts, uint32_t b_rows,
                    const Epilogue& epilogue, const Product& product) {
  const GroupedPieces<W::COLUMNS, W::CTAS * TILE_ROWS> pieces(product, offsets, experts, b_rows);
  matmul_tcgen05<W>(operands, RowsByThreads{epilogue}, product, pieces);
}

KERNEL_CLUSTER(matmul_grouped_tcgen05_bf16_pair_256, 192, 215200, 2, TENSOR_MAP x, TENSOR_MAP w,
               const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
               uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::bf16, 2, 256, 6>>({x, w}, offsets, experts, columns, epilogue,
                                               {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_tcgen05_bf16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
              void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::bf16, 1, 128, 6>>({x, w}, offsets, experts, columns, epilogue,
                                               {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_tcgen05_f16_pair_256, 192, 215200, 2, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets,
               void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::f16, 2, 256, 6>>({x, w}, offsets, experts, columns, epilogue,
                                              {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_tcgen05_f16_128, 192, 215200, TENSOR_MAP x, TENSOR_MAP w, const uint32_t* offsets, void* y,
              uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::f16, 1, 128, 6>>({x, w}, offsets, experts, columns, epilogue,
                                              {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_backward_input_tcgen05_bf16_pair_256, 192, 215200, 2, TENSOR_MAP dy, TENSOR_MAP w,
               const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
               uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::bf16, 2, 256, 6, Major::k, Major::mn>>({dy, w}, offsets, experts, depth / 2, epilogue,
                                                                    {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_input_tcgen05_bf16_128, 192, 215200, TENSOR_MAP dy, TENSOR_MAP w,
              const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
              uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::bf16, 1, 128, 6, Major::k, Major::mn>>({dy, w}, offsets, experts, depth / 2, epilogue,
                                                                    {rows, columns, depth, 1, depth});
}

KERNEL_CLUSTER(matmul_grouped_backward_input_tcgen05_f16_pair_256, 192, 215200, 2, TENSOR_MAP dy, TENSOR_MAP w,
               const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
               uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::f16, 2, 256, 6, Major::k, Major::mn>>({dy, w}, offsets, experts, depth / 2, epilogue,
                                                                   {rows, columns, depth, 1, depth});
}

KERNEL_SHARED(matmul_grouped_backward_input_tcgen05_f16_128, 192, 215200, TENSOR_MAP dy, TENSOR_MAP w,
              const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts,
              uint32_t output_format) {
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  grouped<Way<Tcgen05Format::f16, 1, 128, 6, Major::k, Major::mn>>({dy, w}, offsets, experts, depth / 2, epilogue,
                                                                   {rows, columns, depth, 1, depth});
}
