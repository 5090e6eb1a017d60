// A tile of a matrix product on tensor cores, as good as one in f32: c[m,n] = sum over k of a(m,k) b(n,k), 64 by 64
// by a block of four warps, each with 32 by 32. The sum goes in chunks of 64 k, the next of which is on its way from
// memory while one is multiplied. Operands differ in format and in which index runs along memory, so the forward
// product and both gradients share this.
//
// Numbers are sums of bf16 parts (lib/mma.h), whose products are exact in f32; those of part i with part j where i +
// j <= 2 are summed: 3 for f32 with bf16 or quants, 5 with f16, 6 with f32. The contract allows K + 3 units, a unit
// being 2^-24 of the norms' product |a||b|. What is left out is at most one. Tensor cores may cut addends off two
// bits below an f32 of the largest, half a unit each, and the result to an f32, two units. So 32 k are summed at a
// time, the smallest products first, whose errors are 2^-8 of that: K numbers of one step of 16 cost at most K / 2 +
// 3 units, of two steps K / 2 + 6. These sums are then added in f32, each the better for being shorter than the
// whole.
//
// A chunk is 262,144 products of numbers. At the datasheet's rate its mma take 384 cycles (160 mma a warp for f16:
// 640, 192 for f32: 768), its reads of shared memory 512 (640, 768); cutting an f32 operand and passing it on takes
// 180 instructions a thread, unpacking quants 80. So shared memory and tensor cores limit about equally: 340 to 512
// products a cycle, 165 to 247 TFLOP/s on 132 multiprocessors, against 67 of f32 arithmetic.
#pragma once
#include "mma.h"

constexpr uint32_t MMA_THREADS = 128, MMA_TILE = 64, MMA_CHUNK = 64, MMA_GROUP = 32;

// bf16 numbers as [row][k], two to a word. A lane takes 16 bytes of a row: eight neighbours along k, which serve as
// its four places in each of two steps of 16; any order of k does, if it is the same for both operands. The groups
// of 32 of some rows are exchanged, so that the 16 bytes of eight lanes (two rows), and the words of 32 lanes that
// MmaColumns stores (two rows four apart), lie in different banks.
using MmaOperand = uint32_t[MMA_TILE][MMA_CHUNK / 2];

DEVICE uint32_t mma_word(uint32_t row, uint32_t k) {
  return ((k / MMA_GROUP) ^ ((row ^ row >> 2) & 1)) * (MMA_GROUP / 2) + k % MMA_GROUP / 2;
}

// A row-major matrix whose elements outside are zero.
template <class Parts>
struct MmaMatrix {
  const void* data;
  uint32_t rows, width;

  // Elements `column` to `column + 3` of a row; `column` is a multiple of 4.
  DEVICE typename Parts::Four load4(uint32_t row, uint32_t column, uint32_t row_end, uint32_t column_end) const {
    if (row >= row_end || column >= column_end) return Parts::four(0, 0, 0, 0);
    const typename Parts::Element* at =
      static_cast<const typename Parts::Element*>(data) + static_cast<uint64_t>(row) * width + column;
    if (width % 4 == 0) return *reinterpret_cast<const typename Parts::Four*>(at);
    const uint32_t left = column_end - column;
    return Parts::four(at[0], left > 1 ? at[1] : 0, left > 2 ? at[2] : 0, left > 3 ? at[3] : 0);
  }
};

// Operands: `fetch` starts the loads of this thread's share of a chunk, `put` leaves it in shared memory as parts,
// and `scale` is what the sum of a row over a group is to be multiplied by. This one is stored as [row][k].
template <class Format>
struct MmaRows {
  static constexpr uint32_t PARTS = Format::PARTS, LOADS = MMA_TILE * MMA_CHUNK / 4 / MMA_THREADS;
  struct Shared {
    MmaOperand part[PARTS];
  };
  MmaMatrix<Format> matrix;
  typename Format::Four raw[LOADS];

  DEVICE uint32_t end() const { return matrix.rows; }
  DEVICE static uint32_t row(uint32_t i) { return (i * MMA_THREADS + threadIdx.x) / (MMA_CHUNK / 4); }
  DEVICE static uint32_t k(uint32_t) { return threadIdx.x % (MMA_CHUNK / 4) * 4; }

  DEVICE void fetch(uint32_t first, uint32_t k_first, uint32_t k_end) {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) raw[i] = matrix.load4(first + row(i), k_first + k(i), matrix.rows, k_end);
  }

  DEVICE void put(Shared& shared) const {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
      uint32_t low[PARTS], high[PARTS];
      Format::split(low, Format::element(raw[i], 0), Format::element(raw[i], 1));
      Format::split(high, Format::element(raw[i], 2), Format::element(raw[i], 3));
#pragma unroll
      for (uint32_t p = 0; p < PARTS; p++)
        *reinterpret_cast<uint2*>(&shared.part[p][row(i)][mma_word(row(i), k(i))]) = make_uint2(low[p], high[p]);
    }
  }

  DEVICE static float scale(const Shared&, uint32_t, uint32_t) { return 1.0f; }
};

// Stored as [k][row]. A thread takes four rows of two neighbours along k; a warp 32 bytes each of 32 k, whole
// sectors of memory.
template <class Format>
struct MmaColumns {
  static constexpr uint32_t PARTS = Format::PARTS, LOADS = MMA_TILE * MMA_CHUNK / 8 / MMA_THREADS;
  struct Shared {
    MmaOperand part[PARTS];
  };
  MmaMatrix<Format> matrix;
  typename Format::Four raw[LOADS][2];

  DEVICE uint32_t end() const { return matrix.width; }
  DEVICE static uint32_t unit(uint32_t i) { return i * (MMA_THREADS / 32) + threadIdx.x / 32; }
  DEVICE static uint32_t row(uint32_t i) { return unit(i) % 8 * 8 + threadIdx.x % 2 * 4; }
  DEVICE static uint32_t k(uint32_t i) { return unit(i) / 8 * MMA_GROUP + threadIdx.x % 32 / 2 * 2; }

  DEVICE void fetch(uint32_t first, uint32_t k_first, uint32_t k_end) {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++)
#pragma unroll
      for (uint32_t j = 0; j < 2; j++)
        raw[i][j] = matrix.load4(k_first + k(i) + j, first + row(i), k_end, matrix.width);
  }

  DEVICE void put(Shared& shared) const {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++)
#pragma unroll
      for (uint32_t r = 0; r < 4; r++) {
        uint32_t pair[PARTS];
        Format::split(pair, Format::element(raw[i][0], r), Format::element(raw[i][1], r));
#pragma unroll
        for (uint32_t p = 0; p < PARTS; p++) shared.part[p][row(i) + r][mma_word(row(i) + r, k(i))] = pair[p];
      }
  }

  DEVICE static float scale(const Shared&, uint32_t, uint32_t) { return 1.0f; }
};

// A lane's eight neighbours along k of a row.
DEVICE uint4 mma_eight(const MmaOperand& part, uint32_t row, uint32_t group) {
  return *reinterpret_cast<const uint4*>(&part[row][mma_word(row, group * MMA_GROUP + threadIdx.x % 4 * 8)]);
}

// sum += this warp's 32 x 32 products over one group of 32 k.
template <class Left, class Right>
DEVICE void mma_group(float (&sum)[2][4][4], const typename Left::Shared& left, const typename Right::Shared& right,
                      uint32_t m_first, uint32_t n_first, uint32_t group) {
  const uint32_t g = threadIdx.x % 32 / 4;
  float part[2][4][4] = {};
#pragma unroll
  for (uint32_t q = Right::PARTS; q-- > 0;) {
    uint4 columns[4];
#pragma unroll
    for (uint32_t n = 0; n < 4; n++) columns[n] = mma_eight(right.part[q], n_first + n * 8 + g, group);
#pragma unroll
    for (uint32_t p = Left::PARTS; p-- > 0;) {
      if (p + q > 2) continue;
      uint32_t a[2][2][4], b[2][4][2];  // for each step of 16
#pragma unroll
      for (uint32_t m = 0; m < 2; m++) {
        const uint4 upper = mma_eight(left.part[p], m_first + m * 16 + g, group);
        const uint4 lower = mma_eight(left.part[p], m_first + m * 16 + g + 8, group);
        a[0][m][0] = upper.x, a[0][m][1] = lower.x, a[0][m][2] = upper.y, a[0][m][3] = lower.y;
        a[1][m][0] = upper.z, a[1][m][1] = lower.z, a[1][m][2] = upper.w, a[1][m][3] = lower.w;
      }
#pragma unroll
      for (uint32_t n = 0; n < 4; n++) {
        b[0][n][0] = columns[n].x, b[0][n][1] = columns[n].y;
        b[1][n][0] = columns[n].z, b[1][n][1] = columns[n].w;
      }
      mma_m16n8k16_bf16(part, a[0], b[0]);
      mma_m16n8k16_bf16(part, a[1], b[1]);
    }
  }
#pragma unroll
  for (uint32_t m = 0; m < 2; m++) {
    const float upper = Left::scale(left, m_first + m * 16 + g, group);
    const float lower = Left::scale(left, m_first + m * 16 + g + 8, group);
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const float right_scale = Right::scale(right, n_first + n * 8 + threadIdx.x % 4 * 2 + i % 2, group);
        sum[m][n][i] += (i < 2 ? upper : lower) * right_scale * part[m][n][i];
      }
  }
}

// An operand's tile, and after the last product the sums. Their rows are 4 floats longer than needed, which puts the
// sums of a warp into 32 different banks.
template <class Operand>
union MmaShared {
  typename Operand::Shared tile;
  float sums[MMA_TILE][MMA_TILE + 4];
};

// Calls store(m, n, sum), neighbouring threads with neighbouring m, for the tile at (m_first, n_first) as far as both
// operands reach, summed over k_first <= k < k_end.
template <class Left, class Right, class Store>
DEVICE void mma_product(Left left, Right right, uint32_t m_first, uint32_t n_first, uint32_t k_first, uint32_t k_end,
                        const Store& store) {
  SHARED(left_tile, typename Left::Shared);
  SHARED(right_or_sums, MmaShared<Right>);
  typename Right::Shared& right_tile = right_or_sums.tile;
  const uint32_t warp = threadIdx.x / 32, warp_m = warp % 2 * 32, warp_n = warp / 2 * 32;
  const bool idle = m_first + warp_m >= left.end() || n_first + warp_n >= right.end();
  float sum[2][4][4] = {};
  left.fetch(m_first, k_first, k_end);
  right.fetch(n_first, k_first, k_end);
  for (uint32_t k = k_first; k < k_end; k += MMA_CHUNK) {
    __syncthreads();  // until here the chunk before may still be read
    left.put(left_tile);
    right.put(right_tile);
    __syncthreads();
    if (k + MMA_CHUNK < k_end) {
      left.fetch(m_first, k + MMA_CHUNK, k_end);
      right.fetch(n_first, k + MMA_CHUNK, k_end);
    }
    if (!idle)
#pragma unroll 1
      for (uint32_t group = 0; group < MMA_CHUNK / MMA_GROUP; group++)
        mma_group<Left, Right>(sum, left_tile, right_tile, warp_m, warp_n, group);
  }

  auto& sums = right_or_sums.sums;
  const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  __syncthreads();  // until here the last chunk may still be read
#pragma unroll
  for (uint32_t m = 0; m < 2; m++)
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
#pragma unroll
      for (uint32_t i = 0; i < 4; i++)
        sums[warp_n + n * 8 + t * 2 + i % 2][warp_m + m * 16 + g + i / 2 * 8] = sum[m][n][i];
  __syncthreads();
  const uint32_t m = threadIdx.x % MMA_TILE;
  if (m_first + m < left.end())
    for (uint32_t n = threadIdx.x / MMA_TILE; n < MMA_TILE && n_first + n < right.end(); n += MMA_THREADS / MMA_TILE)
      store(m_first + m, n_first + n, sums[n][m]);
}
