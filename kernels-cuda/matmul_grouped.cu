// matmul_grouped: y[t,n] = sum over k of x[t,k] w[e,n,k], e being the expert of row t. A block takes a tile of 64 rows of
// one expert by 64 columns, which it finds by going through the offsets: there are as many blocks as there may be tiles,
// whatever the offsets are, and those without one end at once.
//
// 4,096 rows for 8 of 64 experts each, 2,048 by 1,408: as many products as one matmul of 32,768 rows, and 369 MB of
// bf16 weights read once, 77 us at 4.8 TB/s. lib/mma_tile.h says what limits a tile. An expert's last tile is half empty
// on the average: 6% at 512 rows an expert.
#include "lib/epilogue.h"
#include "lib/groups.h"
#include "lib/mma_tile.h"

template <class W, class X>
DEVICE void matmul_grouped(const void* x, const uint32_t* offsets, const typename W::Element* w, void* y, uint32_t rows,
                           uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  const uint32_t across = (columns + MMA_TILE - 1) / MMA_TILE, column = blockIdx.x % across * MMA_TILE;
  Groups<MMA_TILE, true> groups(offsets, experts, rows);
  if (!groups.seek(blockIdx.x / across)) return;
  const Epilogue epilogue = {y, columns, nullptr, FORMAT_F32, ACTIVATION_NONE, nullptr, output_format};
  if (!groups.has_expert()) {
    for (uint32_t i = threadIdx.x; i < MMA_TILE * MMA_TILE; i += MMA_THREADS) {
      const uint32_t row = groups.row + i / MMA_TILE, c = column + i % MMA_TILE;
      if (row < groups.end && c < columns) epilogue.store(row, c, 0.0f);
    }
    return;
  }
  const uint64_t matrix = static_cast<uint64_t>(groups.expert()) * columns * depth;
  mma_product(MmaRows<W>{{w + matrix, columns, depth}}, MmaRows<X>{{x, groups.end, depth}}, column, groups.row, 0, depth,
              [&](uint32_t c, uint32_t row, float sum) { epilogue.store(row, c, sum); });
}

KERNEL(matmul_grouped_f32, 128, const float* x, const uint32_t* offsets, const float* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped<PartsF32, PartsF32>(x, offsets, w, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_f16, 128, const float* x, const uint32_t* offsets, const uint16_t* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped<PartsF16, PartsF32>(x, offsets, w, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_bf16, 128, const float* x, const uint32_t* offsets, const uint16_t* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped<PartsBF16, PartsF32>(x, offsets, w, y, rows, columns, depth, experts, output_format);
}

// x in 16 bits too.
KERNEL(matmul_grouped_f16_x16, 128, const void* x, const uint32_t* offsets, const uint16_t* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped<PartsF16, PartsF16>(x, offsets, w, y, rows, columns, depth, experts, output_format);
}

KERNEL(matmul_grouped_bf16_x16, 128, const void* x, const uint32_t* offsets, const uint16_t* w, void* y, uint32_t rows,
       uint32_t columns, uint32_t depth, uint32_t experts, uint32_t output_format) {
  matmul_grouped<PartsBF16, PartsBF16>(x, offsets, w, y, rows, columns, depth, experts, output_format);
}
