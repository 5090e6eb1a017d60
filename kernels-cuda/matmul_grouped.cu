// matmul_grouped: y[t,n] = sum over k of x[t,k] w[e,n,k], e being the expert of row t, on the tiles of
// lib/grouped_tile.h.
//
// 4,096 rows for 8 of 64 experts each, 2,048 by 1,408: as many products as one matmul of 32,768 rows, and 369 MB of
// bf16 weights read once, 77 us at 4.8 TB/s. lib/mma_tile.h says what limits a tile. An expert's last tile is half
// empty on the average: 6% at 512 rows an expert.
#include "lib/grouped_tile.h"
#include "lib/mma_blocks.h"

// An operand of which a tile ends at row `last`.
template <class Operand>
struct Until : Operand {
  uint32_t last;
  DEVICE uint32_t end() const { return last; }
};

// w has the rows of all experts.
template <class W, class X>
DEVICE void matmul_grouped(const W& w, const X& x, const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns,
                           uint32_t depth, uint32_t experts, uint32_t output_format) {
  grouped_tile(offsets, y, rows, columns, experts, output_format,
               [&](const auto& groups, uint32_t column, const auto& store) {
                 const uint32_t first = groups.expert() * columns;
                 mma_product(Until<W>{w, first + columns}, Until<X>{x, groups.end}, first + column, groups.row, 0,
                             depth, [&](uint32_t w_row, uint32_t row, float sum) { store(row, w_row - first, sum); });
               });
}

KERNEL(matmul_grouped_f32, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaRows<PartsF32>{{w, experts * columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, offsets, y,
                 rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_f16, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaRows<PartsF16>{{w, experts * columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, offsets, y,
                 rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_bf16, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaRows<PartsBF16>{{w, experts * columns, depth}}, MmaRows<PartsF32>{{x, rows, depth}}, offsets, y,
                 rows, columns, depth, experts, output_format);
}

// x in 16 bits too.
KERNEL(matmul_grouped_f16_x16, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaRows<PartsF16>{{w, experts * columns, depth}}, MmaRows<PartsF16>{{x, rows, depth}}, offsets, y,
                 rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_bf16_x16, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaRows<PartsBF16>{{w, experts * columns, depth}}, MmaRows<PartsBF16>{{x, rows, depth}}, offsets, y,
                 rows, columns, depth, experts, output_format);
}

using MmaE4M3_128 = MmaBlocks<MmaE4M3<ScaleF32Of128>>;

// x in blocks too.
KERNEL(matmul_grouped_e4m3_128_both, 128, const void* x, const void* w, const uint32_t* offsets, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped(MmaE4M3_128(w, experts * columns, depth), MmaE4M3_128(x, rows, depth), offsets, y, rows, columns,
                 depth, experts, output_format);
}

// Beside kernels of exact architectures, which do not: zeros in the rows of no expert, before the first offset and
// behind the largest. A block has 64 rows, most often none of them.
KERNEL(matmul_grouped_zero, 256, const uint32_t* offsets, void* y, uint32_t rows, uint32_t columns, uint32_t experts,
       uint32_t output_format) {
  uint32_t last = 0;
  for (uint32_t e = 0; e <= experts; e++) last = max(last, min(offsets[e], rows));
  const Epilogue epilogue = plain_epilogue(y, columns, output_format, false);
  for (uint32_t row = blockIdx.x * 64; row < min(rows, (blockIdx.x + 1) * 64); row++)
    if (row < offsets[0] || row >= last)
      for (uint32_t c = threadIdx.x; c < columns; c += 256) epilogue.store(row, c, 0.0f);
}
