// embedding_backward: dtable[v,:] += sum over t with row_of(ids[t]) = v of dy[t,:], in the order of t, without atomics.
//
// A warp stands for one position t and PACKS packs a lane of the width. It goes through all ids, 32 at a time, and
// leaves when an earlier position has the same id: so exactly one warp adds to each element of the table that occurs,
// and rows that don't occur cost nothing. Bytes: every dy once, 8 per element of a row that occurs; ids from L1.
// T = 8,192 positions of 4,096 elements with a quarter of the ids distinct: dy is 134 MB, 28 us at 4.8 TB/s; 2,048 x 8
// warps take 256 steps of about 60 cycles, 30 us on 132 multiprocessors with 32 warps each: the scan is as long.
#include "lib/pack.h"
#include "lib/row_of_id.h"

constexpr uint32_t PACKS = 4;

template <uint32_t N>
DEVICE void embedding_backward(const uint32_t* ids, const float* dy, float* accumulator, const uint32_t* first_id,
                               uint32_t rows, uint64_t width, uint32_t tiles, uint32_t vocabulary) {
  const uint32_t lane = threadIdx.x % 32;
  const uint64_t warp = thread_index() / 32, position = warp / tiles;
  if (position >= rows) return;
  const uint32_t id = ids[position], row = row_of(id, first_id);
  if (row >= vocabulary) return;
  const uint64_t first = warp % tiles * (32 * PACKS) + lane;
  const auto plus = [](float a, float b) { return a + b; };

  Pack<N> sums[PACKS] = {};
  for (uint32_t start = 0; start < rows; start += 32) {
    uint32_t same = __ballot_sync(FULL_WARP, start + lane < rows && ids[start + lane] == id);
    for (; same != 0; same &= same - 1) {
      const uint64_t t = start + __ffs(same) - 1;
      if (t < position) return;
      for (uint32_t p = 0; p < PACKS; p++)
        if (first + 32 * p < width) sums[p] = map<N>(plus, sums[p], load_pack<N>(dy, t * width + first + 32 * p));
    }
  }
  for (uint32_t p = 0; p < PACKS; p++) {
    const uint64_t at = row * width + first + 32 * p;
    if (first + 32 * p < width)
      store_pack(accumulator, at, map<N>(plus, load_pack<N>(accumulator, at), sums[p]));
  }
}

KERNEL(embedding_backward_1, 256, const uint32_t* ids, const float* dy, float* accumulator, OPTIONAL const uint32_t* first,
       uint32_t rows, uint64_t width, uint32_t tiles, uint32_t vocabulary) {
  embedding_backward<1>(ids, dy, accumulator, first, rows, width, tiles, vocabulary);
}

KERNEL(embedding_backward_4, 256, const uint32_t* ids, const float* dy, float* accumulator, OPTIONAL const uint32_t* first,
       uint32_t rows, uint64_t width, uint32_t tiles, uint32_t vocabulary) {
  embedding_backward<4>(ids, dy, accumulator, first, rows, width, tiles, vocabulary);
}
