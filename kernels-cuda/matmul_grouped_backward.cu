// Gradients of matmul_grouped on the tiles of lib/mma_tile.h. Those of weights are added to what is there.
//
// 32,768 rows for 64 experts of 2,048 by 1,408: 189 GFLOP each; lib/mma_tile.h says why 165 (f32) to 247 TFLOP/s, 1.1
// to 0.8 ms, are the limit. Memory: dx reads weights of 369 MB (16 bits) to 738, 77 to 154 us at 4.8 TB/s; dw reads and
// writes 738 MB each, 308 us.
#include "lib/grouped_tile.h"

// dx[t,k] = sum over n of dy[t,n] w[e,n,k]: `rows` t of dx, `columns` k and the `depth` n.
template <class Format>
DEVICE void backward_input(const void* dy, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
                           uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  grouped_tile(
    offsets, y, rows, columns, experts, output_format,
    [&](const auto& groups, uint32_t column, const auto& store) {
      const auto* matrix = static_cast<const typename Format::Element*>(w) +
                           static_cast<uint64_t>(groups.expert()) * depth * columns;
      mma_product(MmaColumns<Format>{{matrix, depth, columns}}, MmaRows<Format>{{dy, groups.end, depth}}, column,
                  groups.row, 0, depth, [&](uint32_t c, uint32_t row, float sum) { store(row, c, sum); });
    });
}

// dw[e,n,k] += sum over e's rows t of dy[t,n] x[t,k]: `rows` n of dw, `columns` k and the `depth` t of all experts.
// Blocks are as many as tiles of all experts, and those of experts without rows have nothing to do.
template <class Format>
DEVICE void backward_weight(const void* dy, const void* x, const uint32_t* offsets, void* y, uint32_t rows,
                            uint32_t columns, uint32_t depth, uint32_t experts) {
  const uint32_t down = (rows + MMA_TILE - 1) / MMA_TILE, across = (columns + MMA_TILE - 1) / MMA_TILE;
  const uint32_t tile = blockIdx.x % (down * across);
  Groups<1u << 31, false> groups(offsets, experts, depth);
  if (!groups.seek(blockIdx.x / (down * across))) return;
  const Epilogue epilogue = plain_epilogue(y, columns, FORMAT_F32, true);
  const uint64_t first = static_cast<uint64_t>(groups.expert()) * rows;
  mma_product(MmaColumns<Format>{{x, depth, columns}}, MmaColumns<Format>{{dy, depth, rows}}, tile / down * MMA_TILE,
              tile % down * MMA_TILE, groups.first, groups.end,
              [&](uint32_t c, uint32_t row, float sum) { epilogue.store(first + row, c, sum); });
}

KERNEL(matmul_grouped_backward_input_f32, 128, const void* dy, const void* w, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  backward_input<PartsF32>(dy, w, offsets, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_backward_input_f16, 128, const void* dy, const void* w, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  backward_input<PartsF16>(dy, w, offsets, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_backward_input_bf16, 128, const void* dy, const void* w, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  backward_input<PartsBF16>(dy, w, offsets, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_backward_weight_f32, 128, const void* dy, const void* x, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts) {
  backward_weight<PartsF32>(dy, x, offsets, y, rows, columns, depth, experts);
}

KERNEL(matmul_grouped_backward_weight_f16, 128, const void* dy, const void* x, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts) {
  backward_weight<PartsF16>(dy, x, offsets, y, rows, columns, depth, experts);
}

KERNEL(matmul_grouped_backward_weight_bf16, 128, const void* dy, const void* x, const uint32_t* offsets, void* y,
       uint32_t rows, uint32_t columns, uint32_t depth, uint32_t experts) {
  backward_weight<PartsBF16>(dy, x, offsets, y, rows, columns, depth, experts);
}
