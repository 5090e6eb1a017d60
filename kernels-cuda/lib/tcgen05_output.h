// How a warp's sums leave its registers for y, 32 columns at a time, of which each thread has a row: as tensor memory
// gives them (lib/tmem.h). `row` and `column` are those of the warp's first in a piece's matrix.
#pragma once
#include "epilogue.h"
#include "pieces.h"
#include "tma.h"

// With something to follow the sums: through shared memory, so that a half warp has a row's neighbours. With rows of 36
// floats, four neighbours in rows that neighbour lie in different banks.
struct RowsByThreads {
  struct alignas(16) Shared {
    float row[32][36];
  };
  const Epilogue& epilogue;

  DEVICE void store(const float (&sum)[32], Shared& shared, const Product& product, const Piece& piece, uint32_t row,
                    uint32_t column) const {
    const uint32_t lane = threadIdx.x % 32, at = lane % 16 * 2;
    __syncwarp();
#pragma unroll
    for (uint32_t i = 0; i < 32; i += 4)
      *reinterpret_cast<float4*>(&shared.row[lane][i]) = make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
    __syncwarp();
    if (column + at >= product.columns) return;
    const uint64_t above = static_cast<uint64_t>(piece.matrix) * product.rows;
#pragma unroll 1
    for (uint32_t first = lane / 16; first < 32; first += 8) {
      float2 added[4];
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t r = first + 2 * i;
        if (row + r < piece.row_end) added[i] = epilogue.residual_pair(above + row + r, column + at);
      }
#pragma unroll
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t r = first + 2 * i;
        if (row + r >= piece.row_end) break;
        const float2 pair = *reinterpret_cast<const float2*>(&shared.row[r][at]);
        epilogue.store_pair(above + row + r, column + at, pair, added[i]);
      }
    }
  }

  DEVICE void finish() const {}
};

// The sums as they are, or added to what is there: in boxes of 32 rows of 128 bytes, two in turn, that the copy engine
// stores while the warp goes on. y is a matrix of such boxes; where it is several, each has a multiple of 32 rows. An
// element is added to once in a launch, so no sum depends on timing. Eight threads that neighbour write 16 bytes each
// to different banks.
struct RowsByBoxes {
  struct alignas(1024) Shared {
    unsigned char box[2][32][128];
  };
  const TensorMap& y;
  uint32_t output_format;
  bool add;
  uint32_t turn = 0;

  DEVICE RowsByBoxes(const TensorMap& y, uint32_t output_format, bool add)
      : y(y), output_format(output_format), add(add) {}

  DEVICE void store(const float (&sum)[32], Shared& shared, const Product& product, const Piece& piece, uint32_t row,
                    uint32_t column) {
    const uint32_t lane = threadIdx.x % 32;
    // In 16 bits 32 columns are half of a box.
    const uint32_t parts = output_format == FORMAT_F32 ? 1 : 2, part = column / 32 % parts;
    auto& box = shared.box[turn];
    if (part == 0) {
      if (lane == 0) tma_store_wait_read<1>();
      __syncwarp();
    }
    const auto put = [&](uint32_t chunk, uint4 words) {
      *reinterpret_cast<uint4*>(&box[lane][(chunk ^ lane % 8) * 16]) = words;
    };
    if (output_format == FORMAT_F32) {
#pragma unroll
      for (uint32_t i = 0; i < 8; i++)
        put(i, make_uint4(__float_as_uint(sum[4 * i]), __float_as_uint(sum[4 * i + 1]),
                          __float_as_uint(sum[4 * i + 2]), __float_as_uint(sum[4 * i + 3])));
    } else {
      const auto pair = [&](uint32_t i) {
        return output_format == FORMAT_F16 ? f32_to_f16(sum[i]) | f32_to_f16(sum[i + 1]) << 16
                                           : f32_to_bf16(sum[i]) | f32_to_bf16(sum[i + 1]) << 16;
      };
#pragma unroll
      for (uint32_t i = 0; i < 4; i++)
        put(4 * part + i, make_uint4(pair(8 * i), pair(8 * i + 2), pair(8 * i + 4), pair(8 * i + 6)));
    }
    if (part + 1 < parts) return;
    fence_proxy_async();
    __syncwarp();
    turn ^= 1;
    if (lane > 0) return;
    const uint32_t here = column - 32 * part, y_row = piece.matrix * product.rows + row;
    if (row < piece.row_end && here < product.columns) {
      if (add)
        tma_store_add(y, here, y_row, box);
      else
        tma_store(y, here, y_row, box);
    }
    tma_store_commit();
  }

  // Before a warp ends, whose boxes go with it.
  DEVICE void finish() const {
    if (threadIdx.x % 32 == 0) tma_store_wait<0>();
  }
};
