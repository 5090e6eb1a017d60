// transpose: y = x with its dims in another order, words of any format.
//
// Bytes: 8 per element; a few divisions a thread. Memory bandwidth is the limit: both kernels read and write whole
// 128-byte lines where the dims that they run along have that length.
#include "lib/pack.h"

// Where the last dim stays last its packs move together: one pack of y a thread. Dims of y and x's steps along them
// count packs.
template <uint32_t N>
DEVICE void transpose_rows(const uint32_t* x, uint32_t* y, uint64_t size1, uint64_t size2, uint64_t size3,
                           uint64_t step0, uint64_t step1, uint64_t step2, uint64_t count) {
  const uint64_t i = thread_index();
  if (i >= count) return;
  const uint64_t row = i / size3, plane = row / size2;
  const uint64_t from = plane / size1 * step0 + plane % size1 * step1 + row % size2 * step2 + i % size3;
  store_pack(y, i, load_pack<N>(x, from));
}

KERNEL(transpose_rows_1, 256, const uint32_t* x, uint32_t* y, uint64_t size1, uint64_t size2, uint64_t size3,
       uint64_t step0, uint64_t step1, uint64_t step2, uint64_t count) {
  transpose_rows<1>(x, y, size1, size2, size3, step0, step1, step2, count);
}

KERNEL(transpose_rows_4, 256, const uint32_t* x, uint32_t* y, uint64_t size1, uint64_t size2, uint64_t size3,
       uint64_t step0, uint64_t step1, uint64_t step2, uint64_t count) {
  transpose_rows<4>(x, y, size1, size2, size3, step0, step1, step2, count);
}

// Where another dim becomes the last, a block moves a tile of 32 x 32 through shared memory: read along x's last dim
// (`columns` long), written along y's last (`rows` long). The other two dims are `outer` and `inner`. Each dim has its
// step in x and in y; columns have step 1 in x, rows in y. The odd pitch of the tile keeps columns free of bank
// conflicts.
KERNEL(transpose_tile, 256, const uint32_t* x, uint32_t* y, uint32_t rows, uint32_t columns, uint32_t inner,
       uint64_t row_step, uint64_t column_step, uint64_t inner_step_x, uint64_t inner_step_y, uint64_t outer_step_x,
       uint64_t outer_step_y) {
  SHARED(tile, uint32_t[32][33]);
  const uint32_t tiles_across = (columns + 31) / 32, tiles_down = (rows + 31) / 32;
  const uint32_t first_column = blockIdx.x % tiles_across * 32;
  const uint32_t first_row = blockIdx.x / tiles_across % tiles_down * 32;
  const uint32_t matrix = blockIdx.x / tiles_across / tiles_down;
  x += matrix / inner * outer_step_x + matrix % inner * inner_step_x;
  y += matrix / inner * outer_step_y + matrix % inner * inner_step_y;

  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (uint32_t r = warp; r < 32; r += 8)
    if (first_row + r < rows && first_column + lane < columns)
      tile[r][lane] = x[(first_row + r) * row_step + first_column + lane];
  __syncthreads();
  for (uint32_t c = warp; c < 32; c += 8)
    if (first_column + c < columns && first_row + lane < rows)
      y[(first_column + c) * column_step + first_row + lane] = tile[lane][c];
}
