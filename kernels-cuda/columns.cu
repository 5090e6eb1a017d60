// Column sums over all rows: the gradients of a bias (sum of dy) and of a norm's weight (sum of dy times the
// normalised x), or of both in one pass, added to accumulators. The rows are cut into chunks, so that narrow matrices have
// blocks enough; a second launch sums the chunks' sums. Both orders are fixed.
//
// A block sums 32 packs of columns: each of its 8 warps every eighth row, 512 bytes of it at once; then the warps.
// Bytes per element: 4 (2 with dy in 16 bits), and 4 for x; flops: 1, 4 or 5. Memory bandwidth is the limit: 8,192 rows of
// 4,096 are 134 MB, 28 us at 4.8 TB/s. The second launch reads at most 512 / 32 of that.
#include "lib/stored.h"
#include "lib/strided.h"

constexpr uint32_t WARPS = 8;

template <uint32_t M>
DEVICE Pack<M> plus(const Pack<M>& a, const Pack<M>& b) {
  return map<M>([](float u, float v) { return u + v; }, a, b);
}

// The sum of term(row, column), a pack of M numbers, over rows first to end, in the first warp; others have their own part.
template <uint32_t M, typename Term>
DEVICE Pack<M> column_sum(uint64_t first, uint64_t end, uint32_t column, uint32_t columns, Term term) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Pack<M> sum = {};
  if (column < columns)
    strided<uint64_t>(first + warp, end, WARPS,
                      [&](uint64_t row) { sum = plus(sum, term(row, row * columns + column)); });
  SHARED(of_warp, Pack<M>[WARPS][32]);
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp == 0)
    for (uint32_t other = 1; other < WARPS; other++) sum = plus(sum, of_warp[other][lane]);
  return sum;
}

// The j-th pack of N of a pack of M.
template <uint32_t N, uint32_t M>
DEVICE Pack<N> part_of(const Pack<M>& pack, uint32_t j) {
  Pack<N> part;
  for (uint32_t k = 0; k < N; k++) part.v[k] = pack.v[j * N + k];
  return part;
}

// partial [M / N][chunks][width]: this block's tile of columns in one chunk of `chunk` rows, M / N sums of each column.
template <uint32_t N, uint32_t M, typename Term>
DEVICE void column_partial(float* partial, uint32_t rows, uint32_t width, uint32_t chunk, Term term) {
  const uint32_t columns = width / N, tiles = (columns + 31) / 32, chunks = gridDim.x / tiles;
  const uint32_t column = blockIdx.x % tiles * 32 + threadIdx.x % 32;
  const uint64_t own = blockIdx.x / tiles, first = own * chunk;
  const Pack<M> sum = column_sum<M>(first, first + chunk < rows ? first + chunk : rows, column, columns, term);
  if (threadIdx.x < 32 && column < columns)
    for (uint32_t j = 0; j < M / N; j++)
      store_pack(partial, (j * chunks + own) * columns + column, part_of<N>(sum, j));
}

template <uint32_t N, typename Gradient>
DEVICE void bias_term(const void* dy, float* partial, uint32_t rows, uint32_t width, uint32_t chunk) {
  column_partial<N, N>(partial, rows, width, chunk, [=](uint64_t, uint64_t i) { return load_stored<N, Gradient>(dy, i); });
}

// M is N, or 2 N with the sum of dy behind that of dy times the normalised x.
template <uint32_t N, uint32_t M, typename Gradient>
DEVICE void norm_term(const void* dy, const float* x, const float2* statistics, float* partial, uint32_t rows,
                      uint32_t width, uint32_t chunk) {
  column_partial<N, M>(partial, rows, width, chunk, [=](uint64_t row, uint64_t i) {
    const float2 own = statistics[row];  // mean, inverse deviation
    const Pack<N> d = load_stored<N, Gradient>(dy, i), v = load_pack<N>(x, i);
    Pack<M> sums;
    for (uint32_t j = 0; j < M; j++) sums.v[j] = j < N ? d.v[j] * ((v.v[j] - own.x) * own.y) : d.v[j - N];
    return sums;
  });
}

template <uint32_t SUMS>
DEVICE void norm_partial(const void* dy, const float* x, const float* statistics, float* partial, uint32_t dy_format,
                         uint32_t rows, uint32_t width, uint32_t chunk) {
  const float2* of_row = reinterpret_cast<const float2*>(statistics);
  with_format(dy_format, [=](auto d) {
    if (width % 4 == 0)
      norm_term<4, 4 * SUMS, decltype(d)>(dy, x, of_row, partial, rows, width, chunk);
    else
      norm_term<1, SUMS, decltype(d)>(dy, x, of_row, partial, rows, width, chunk);
  });
}

template <uint32_t N>
DEVICE void column_total(float* accumulator, const float* partial, uint32_t tile, uint32_t chunks, uint32_t width) {
  const uint32_t columns = width / N, column = tile * 32 + threadIdx.x % 32;
  const Pack<N> sum =
      column_sum<N>(0, chunks, column, columns, [=](uint64_t, uint64_t i) { return load_pack<N>(partial, i); });
  if (threadIdx.x < 32 && column < columns)
    store_pack(accumulator, column, plus(load_pack<N>(accumulator, column), sum));
}

KERNEL(bias_partial, 256, const void* dy, float* partial, uint32_t dy_format, uint32_t rows, uint32_t width,
       uint32_t chunk) {
  with_format(dy_format, [=](auto d) {
    if (width % 4 == 0)
      bias_term<4, decltype(d)>(dy, partial, rows, width, chunk);
    else
      bias_term<1, decltype(d)>(dy, partial, rows, width, chunk);
  });
}

KERNEL(norm_weight_partial, 256, const void* dy, const float* x, const float* statistics, float* partial,
       uint32_t dy_format, uint32_t rows, uint32_t width, uint32_t chunk) {
  norm_partial<1>(dy, x, statistics, partial, dy_format, rows, width, chunk);
}

KERNEL(norm_weight_and_bias_partial, 256, const void* dy, const float* x, const float* statistics, float* partial,
       uint32_t dy_format, uint32_t rows, uint32_t width, uint32_t chunk) {
  norm_partial<2>(dy, x, statistics, partial, dy_format, rows, width, chunk);
}

// The second half of the grid has the second accumulator, where there is one.
KERNEL(column_final, 256, float* accumulator, OPTIONAL float* second, const float* partial, uint32_t chunks,
       uint32_t width) {
  const uint32_t N = width % 4 == 0 ? 4 : 1, tiles = (width / N + 31) / 32, tile = blockIdx.x % tiles;
  if (blockIdx.x >= tiles) {
    accumulator = second;
    partial += static_cast<uint64_t>(chunks) * width;
  }
  if (N == 4)
    column_total<4>(accumulator, partial, tile, chunks, width);
  else
    column_total<1>(accumulator, partial, tile, chunks, width);
}
