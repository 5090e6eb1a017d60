// matmul for up to 32 rows (decoding of a batch): y = activation(x w^T + bias) + residual, at the speed at which weights
// come from memory; of more rows with x in bf16 and w in quants, 32 a block. Weights are the left operand of mma.sync, 32 columns of y for a warp; rows of x, eight to a tile,
// the right one. Both go from memory to registers as a lane needs them, 16 bytes a load, since any order of k does if it is
// the same for both; blocks of quants are exchanged between the four lanes of a row, so that a product is within one.
// Warps of a block share columns or the reduction, whose sums are joined in a fixed order at the end.
//
// Every weight is read once. 4.8 TB/s are 20 bytes a cycle for each of 132 multiprocessors, at 700 ns of latency 25 KB
// on their way: eight warps hold two chunks of 64 bytes a lane while they multiply a third, 32 KB. For 4,096 by 4,096:
// 34 MB in bf16, 7 us; 17.8 MB in q8_0, 3.7; 9.4 MB in q4_0, 2. x comes from L1 and L2, 32 columns in q4_0 at 8 rows
// of f32 even more of it than of weights: where rows are many, more warps share it, and columns. Products of f32 take
// three mma each (lib/mma_tile.h), 32 rows of bf16 weights 960 multiply-adds a cycle; mma.sync does some 1,270, 62% of
// what wgmma does, by measurements others published. So up to 32 rows memory limits in bf16; in f16, with five mma, up
// to 25; in q8_0 and e4m3_128 a byte has twice the products, in q4_0 nearly four times: 22 rows and 12. With x in bf16
// there is one mma: memory limits up to 32 rows whatever w is in (q4_0: 36), and one row of q4_0 takes 2.2 instructions
// a weight, fewer than matmul_vector's multiply-adds.
#include "lib/epilogue.h"
#include "lib/skinny_weights.h"

constexpr uint32_t THREADS = 256, WARPS = THREADS / 32;
constexpr uint32_t M_TILES = 2, WARP_COLUMNS = 16 * M_TILES;  // tiles of 16 columns of y that a warp has

struct Product {
  const void *x, *w;
  uint32_t rows, columns, depth, splits, split_depth;
};

// The formats that may have more rows than a block.
template <class W, class X>
constexpr bool QUANTS_OF_BF16 = W::UNITS > 1 && X::PARTS == 1;

// A lane's share of a chunk: rows g and g + 8 of each tile of 16 columns.
template <class W>
struct Chunk {
  static constexpr uint32_t DEPTH = 4 * W::SPAN;
  uint32_t word[M_TILES][2][4];
  float scale[M_TILES][2];

  DEVICE void fetch(const Product& of, const uint32_t (&start)[M_TILES][2], uint32_t k_chunk, uint32_t k_end) {
    const uint32_t t = threadIdx.x % 4, k = k_chunk + t * W::SPAN;
#pragma unroll
    for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
      for (uint32_t half = 0; half < 2; half++) {
        const uint32_t at = start[i][half] + k_chunk / W::SPAN;
        const uint4 v = k < k_end ? static_cast<const uint4*>(of.w)[at + t] : make_uint4(0, 0, 0, 0);
        word[i][half][0] = v.x, word[i][half][1] = v.y, word[i][half][2] = v.z, word[i][half][3] = v.w;
        const uint64_t count = static_cast<uint64_t>(of.columns) * of.depth;
        scale[i][half] = k < k_end ? W::fetch_scale(of.w, count, at, t) : 0.0f;
      }
  }
};

// Eight neighbours of a row of x as pairs for the right operand.
template <class W, class X>
DEVICE void x_pairs(uint32_t (&pair)[X::PARTS][4], const Product& of, uint32_t row, uint32_t k, uint32_t k_end) {
  typename X::Four low = X::four(0, 0, 0, 0), high = low;
  if (row < of.rows && k < k_end) {
    const uint32_t at = (row * of.depth + k) / 4;
    if constexpr (QUANTS_OF_BF16<W, X>) {
      const uint4 eight = static_cast<const uint4*>(of.x)[at / 2];
      low = make_uint2(eight.x, eight.y), high = make_uint2(eight.z, eight.w);
    } else {
      low = static_cast<const typename X::Four*>(of.x)[at];
      high = static_cast<const typename X::Four*>(of.x)[at + 1];
    }
  }
  const auto element = [&](uint32_t e) { return e < 4 ? X::element(low, e) : X::element(high, e - 4); };
#pragma unroll
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t part[X::PARTS];
    X::split(part, element(W::first(i)), element(W::second(i)));
#pragma unroll
    for (uint32_t p = 0; p < X::PARTS; p++) pair[p][i] = part[p];
  }
}

// Adds the products of a chunk, 32 k at a time and the smallest parts first: lib/mma_tile.h says why.
template <class W, class X, uint32_t N_TILES>
DEVICE void add_chunk(float (&sum)[M_TILES][N_TILES][4], Chunk<W>& chunk, const Product& of, uint32_t first_row,
                      uint32_t k_chunk, uint32_t k_end) {
  const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) W::spread(chunk.word[i][half]);
#pragma unroll
  for (uint32_t unit = 0; unit < W::UNITS; unit++) {
    __syncwarp();  // keeps loads of x of later units, and the registers for them, behind
    uint32_t weights[M_TILES][2][W::PARTS][4];
    float scale[M_TILES][2];
#pragma unroll
    for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
      for (uint32_t half = 0; half < 2; half++) {
        W::pairs(weights[i][half], chunk.word[i][half], unit);
        scale[i][half] = W::scale(chunk.scale[i][half], unit);
      }
#pragma unroll
    for (uint32_t n = 0; n < N_TILES; n++) {
      uint32_t right[X::PARTS][4];
      x_pairs<W, X>(right, of, first_row + 8 * n + g, k_chunk + W::offset(unit, t), k_end);
      float part[M_TILES][1][4] = {};
#pragma unroll
      for (uint32_t q = X::PARTS; q-- > 0;)
#pragma unroll
        for (uint32_t p = W::PARTS; p-- > 0;) {
          if (p + q > 2) continue;
#pragma unroll
          for (uint32_t step = 0; step < 4; step += 2) {
            const uint32_t b[1][2] = {{right[q][step], right[q][step + 1]}};
            uint32_t a[M_TILES][4];
#pragma unroll
            for (uint32_t i = 0; i < M_TILES; i++) {
              a[i][0] = weights[i][0][p][step], a[i][1] = weights[i][1][p][step];
              a[i][2] = weights[i][0][p][step + 1], a[i][3] = weights[i][1][p][step + 1];
            }
            mma_m16n8k16_bf16(part, a, b);
          }
        }
#pragma unroll
      for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
        for (uint32_t e = 0; e < 4; e++) sum[i][n][e] += scale[i][e / 2] * part[i][0][e];
    }
  }
}

// N_TILES of eight rows; M_WARPS warps side by side in columns, the others share the reduction with them.
template <class W, class X, uint32_t N_TILES, uint32_t M_WARPS>
DEVICE void matmul_skinny(const Product& of, const Epilogue& epilogue) {
  constexpr uint32_t K_WARPS = WARPS / M_WARPS, ROWS = 8 * N_TILES, COLUMNS = WARP_COLUMNS * M_WARPS;
  constexpr uint32_t BUFFERS = N_TILES > 2 ? 2 : 3;  // chunks that a warp holds or awaits, as registers allow
  const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const uint32_t down = QUANTS_OF_BF16<W, X> ? (of.rows + ROWS - 1) / ROWS : 1;
  const uint32_t split = blockIdx.x % of.splits, tile = blockIdx.x / of.splits;
  const uint32_t first_row = tile % down * ROWS, first_column = tile / down * COLUMNS;
  const uint32_t k_first = split * of.split_depth + warp / M_WARPS * Chunk<W>::DEPTH;
  const uint32_t k_end = min(of.depth, (split + 1) * of.split_depth), k_step = K_WARPS * Chunk<W>::DEPTH;

  uint32_t start[M_TILES][2];  // in loads of a lane; columns past the end repeat the last one, and are not stored
#pragma unroll
  for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
    for (uint32_t half = 0; half < 2; half++)
      start[i][half] = min(of.columns - 1, first_column + warp % M_WARPS * WARP_COLUMNS + i * 16 + half * 8 + g) *
                       (of.depth / W::SPAN);

  float sum[M_TILES][N_TILES][4] = {};
  Chunk<W> chunk[BUFFERS];
#pragma unroll
  for (uint32_t i = 0; i + 1 < BUFFERS; i++) chunk[i].fetch(of, start, k_first + i * k_step, k_end);
  for (uint32_t k = k_first; k < k_end; k += BUFFERS * k_step)
#pragma unroll
    for (uint32_t i = 0; i < BUFFERS; i++) {
      const uint32_t here = k + i * k_step;
      if (here >= k_end) break;
      chunk[(i + BUFFERS - 1) % BUFFERS].fetch(of, start, here + (BUFFERS - 1) * k_step, k_end);
      add_chunk<W, X>(sum, chunk[i], of, first_row, here, k_end);
    }

  // With rows of 36 floats the sums of a warp go to 32 banks.
  SHARED(of_warp, float[WARPS][8][WARP_COLUMNS + 4]);
#pragma unroll
  for (uint32_t n = 0; n < N_TILES; n++) {
    __syncthreads();  // until here the tile before may be read
#pragma unroll
    for (uint32_t i = 0; i < M_TILES; i++)
#pragma unroll
      for (uint32_t e = 0; e < 4; e++) of_warp[warp][2 * t + e % 2][i * 16 + e / 2 * 8 + g] = sum[i][n][e];
    __syncthreads();
    for (uint32_t unit = threadIdx.x; unit < 8 * COLUMNS; unit += THREADS) {
      const uint32_t row = first_row + 8 * n + unit / COLUMNS, c = unit % COLUMNS;
      float total = 0;
#pragma unroll
      for (uint32_t k_warp = 0; k_warp < K_WARPS; k_warp++)
        total += of_warp[k_warp * M_WARPS + c / WARP_COLUMNS][unit / COLUMNS][c % WARP_COLUMNS];
      if (row < of.rows && first_column + c < of.columns)
        epilogue.store(static_cast<uint64_t>(split) * of.rows + row, first_column + c, total);
    }
  }
}

// As the table in backends/cuda/kernels/matmul_skinny.ts has it.
template <class W, class X>
DEVICE void matmul_skinny(const Product& of, const Epilogue& epilogue) {
  if (of.rows <= 8)
    matmul_skinny<W, X, 1, 1>(of, epilogue);
  else if (of.rows <= 16)
    matmul_skinny<W, X, 2, 2>(of, epilogue);
  else
    matmul_skinny<W, X, 4, 4>(of, epilogue);
}

KERNEL(matmul_skinny_f16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Floats<PartsF16>, PartsF32>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_bf16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Floats<PartsBF16>, PartsF32>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

// x in 16 bits too.
KERNEL(matmul_skinny_f16_x16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Floats<PartsF16>, PartsF16>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_bf16_x16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Floats<PartsBF16>, PartsBF16>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_q8_0, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Quants8, PartsF32>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_q4_0, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Quants4, PartsF32>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_e4m3_128, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<E4M3Quants, PartsF32>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

// x in bf16.
KERNEL(matmul_skinny_q8_0_x16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Quants8, PartsBF16>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_q4_0_x16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<Quants4, PartsBF16>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}

KERNEL(matmul_skinny_e4m3_128_x16, 256, const void* x, const void* w, OPTIONAL const void* bias,
       OPTIONAL const float* residual, void* y, uint32_t rows, uint32_t columns, uint32_t depth,
       uint32_t bias_format, uint32_t activation, uint32_t output_format, uint32_t splits, uint32_t split_depth) {
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, residual, output_format};
  matmul_skinny<E4M3Quants, PartsBF16>({x, w, rows, columns, depth, splits, split_depth}, epilogue);
}
