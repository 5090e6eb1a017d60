// How a warp's sums, 16 rows of 2 SUMS columns from (row, column) of a piece's matrix on, leave its registers;
// lib/wgmma.h says which lane has which.
#pragma once
#include "epilogue.h"
#include "pieces.h"
#include "tma.h"

// With something to follow the sums: 32 columns at a time through shared memory, so that a half warp has a row's
// neighbours. With rows of 40 floats, pairs of a half warp lie in different banks.
struct ByThreads {
  using Shared = float[16][40];
  const Epilogue& epilogue;

  template <uint32_t SUMS>
  DEVICE void store(const float (&sum)[SUMS], Shared& shared, const Product& product, const Piece& piece,
                    uint32_t row, uint32_t column) const {
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (uint32_t first = 0; first < SUMS; first += 16) {
      __syncwarp();
#pragma unroll
      for (uint32_t i = 0; i < 16; i += 4) {
        const uint32_t at = 2 * i + 2 * t;
        *reinterpret_cast<float2*>(&shared[g][at]) = make_float2(sum[first + i], sum[first + i + 1]);
        *reinterpret_cast<float2*>(&shared[g + 8][at]) = make_float2(sum[first + i + 2], sum[first + i + 3]);
      }
      __syncwarp();
      const uint32_t at = lane % 16 * 2, here = column + 2 * first + at;
#pragma unroll 1
      for (uint32_t r = lane / 16; r < 16; r += 2) {
        if (row + r >= piece.row_end || here >= product.columns) break;
        const float2 pair = *reinterpret_cast<const float2*>(&shared[r][at]);
        epilogue.store_pair(static_cast<uint64_t>(piece.matrix) * product.rows + row + r, here, pair);
      }
    }
  }

  DEVICE void finish() const {}
};

// The sums as they are, or added to what is there: in boxes of 16 rows of 128 bytes, two in turn, that the copy engine
// stores while the warp goes on. y is a matrix of such boxes; where it is several, each has a multiple of 16 rows. Where
// rows of a box may be another piece's, threads store those that are not, to `y_rows`, which is y. An element is added
// to once in a launch, so no sum depends on timing. Words of 16-bit pairs lie in different banks; of pairs of f32, two
// lie in the same, 1,024 cycles more for a tile of 128 x 256.
struct ByBoxes {
  struct Shared {
    unsigned char box[2][16][128];
  };
  const TensorMap& y;
  uint32_t output_format;
  bool add;
  void* y_rows;
  uint32_t turn = 0;

  DEVICE ByBoxes(const TensorMap& y, uint32_t output_format, bool add, void* y_rows = nullptr)
      : y(y), output_format(output_format), add(add), y_rows(y_rows) {}

  // The place of a row's byte in a box.
  DEVICE static unsigned char* at(unsigned char (&box)[16][128], uint32_t row, uint32_t byte) {
    return &box[row][(byte / 16 ^ row % 8) * 16 + byte % 16];
  }

  // The first `count` rows of a box to y, where it begins in row `row` with byte `first` of so many.
  DEVICE void store_rows(unsigned char (&box)[16][128], uint32_t count, uint64_t row, uint32_t first,
                         uint64_t row_bytes) const {
    const uint32_t byte = threadIdx.x % 8 * 16;
    if (first + byte >= row_bytes) return;
    unsigned char* to = static_cast<unsigned char*>(y_rows) + row * row_bytes + first + byte;
    for (uint32_t r = threadIdx.x % 32 / 8; r < count; r += 4)
      *reinterpret_cast<uint4*>(to + r * row_bytes) = *reinterpret_cast<const uint4*>(at(box, r, byte));
  }

  // `COLUMNS` columns are a box, of which a thread has half as many sums.
  template <uint32_t COLUMNS, uint32_t SUMS, class Put>
  DEVICE void store_boxes(const float (&sum)[SUMS], Shared& shared, const Product& product, const Piece& piece,
                          uint32_t row, uint32_t column, const Put& put) {
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    constexpr uint32_t BYTES = 128 / COLUMNS;
#pragma unroll
    for (uint32_t first = 0; first < SUMS; first += COLUMNS / 2) {
      auto& box = shared.box[turn];
      turn ^= 1;
      if (lane == 0) tma_store_wait_read<1>();
      __syncwarp();
#pragma unroll
      for (uint32_t i = 0; i < COLUMNS / 2; i += 4) {
        const uint32_t byte = BYTES * (2 * i + 2 * t);
        put(at(box, g, byte), sum[first + i], sum[first + i + 1]);
        put(at(box, g + 8, byte), sum[first + i + 2], sum[first + i + 3]);
      }
      fence_proxy_async();
      __syncwarp();
      const uint32_t here = column + 2 * first, y_row = piece.matrix * product.rows + row;
      const bool inside = row < piece.row_end && here < product.columns;
      if (inside && y_rows != nullptr && piece.row_end - row < 16) {
        store_rows(box, piece.row_end - row, y_row, BYTES * here, BYTES * static_cast<uint64_t>(product.columns));
      } else if (inside && lane == 0) {
        if (add)
          tma_store_add(y, here, y_row, box);
        else
          tma_store(y, here, y_row, box);
      }
      // A group for each box, stored or not: they are counted.
      if (lane == 0) tma_store_commit();
    }
  }

  template <uint32_t SUMS>
  DEVICE void store(const float (&sum)[SUMS], Shared& shared, const Product& product, const Piece& piece,
                    uint32_t row, uint32_t column) {
    const auto f32 = [](unsigned char* to, float a, float b) { *reinterpret_cast<float2*>(to) = make_float2(a, b); };
    const auto f16 = [](unsigned char* to, float a, float b) {
      *reinterpret_cast<uint32_t*>(to) = f32_to_f16(a) | f32_to_f16(b) << 16;
    };
    const auto bf16 = [](unsigned char* to, float a, float b) {
      *reinterpret_cast<uint32_t*>(to) = f32_to_bf16(a) | f32_to_bf16(b) << 16;
    };
    if (output_format == FORMAT_F32)
      store_boxes<32>(sum, shared, product, piece, row, column, f32);
    else if (output_format == FORMAT_F16)
      store_boxes<64>(sum, shared, product, piece, row, column, f16);
    else
      store_boxes<64>(sum, shared, product, piece, row, column, bf16);
  }

  // Before a warp ends, whose boxes go with it.
  DEVICE void finish() const {
    if (threadIdx.x % 32 == 0) tma_store_wait<0>();
  }
};
