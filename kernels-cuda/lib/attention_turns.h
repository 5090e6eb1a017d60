// How two warpgroups of a block on Hopper do a tile of 128 queries, 64 each: scores, weights and sums stay in
// registers; weights become 16 bits there and are the left operand of the product with the values. A warpgroup issues
// the scores of the next keys before the values of the ones at hand, and takes exponentials while they are multiplied;
// the two issue by turns, so that one's exponentials are hidden by the other's products.
#pragma once
#include "attention_ring.h"
#include "attention_softmax.h"
#include "cluster.h"
#include "epilogue.h"
#include "warpgroup.h"

constexpr uint32_t WARPGROUP = 128, WARPGROUP_ROWS = 64, CONSUMER_WARPS = 8;

// Of the producer's warpgroup and the two others, which start with 168 registers a thread.
constexpr uint32_t PRODUCER_REGISTERS = 56, CONSUMER_REGISTERS = 224;

template <class Ring>
struct TurnTiles : Ring {
  Mbarrier turn[2];  // a phase is over when it is the warpgroup's turn to issue

  // As KeyRing's, which both warpgroups empty, stages those of all blocks that share them.
  DEVICE void init(uint32_t q_fill = 1, uint32_t fill = 1, uint32_t blocks = 1) {
    Ring::init(CONSUMER_WARPS, CONSUMER_WARPS * blocks, q_fill, fill);
    for (uint32_t w = 0; w < 2; w++) mbarrier_init(turn[w], CONSUMER_WARPS / 2);
  }
};

// The first row of the thread's warpgroup in its tile, and of its own two rows, eight apart, the first.
DEVICE uint32_t warpgroup_row() { return (threadIdx.x / WARPGROUP - 1) * WARPGROUP_ROWS; }
DEVICE uint32_t thread_row() { return warpgroup_row() + threadIdx.x % WARPGROUP / 32 * 16 + threadIdx.x % 32 / 4; }
// The first of the columns that a thread has scores of: its score i is of column i / 4 * 8 + i % 2 from there on, and
// of its row i / 2 % 2.
DEVICE uint32_t thread_column() { return threadIdx.x % 4 * 2; }

// Scores of row r, of keys from its thread's first column on, become UNSEEN where they are not in [begin, past); both
// are counted from that column.
DEVICE void mask_row(float (&score)[KEY_ROWS / 2], uint32_t r, int32_t begin, int32_t past) {
#pragma unroll
  for (uint32_t i = 2 * r; i < KEY_ROWS / 2; i += i % 2 == 0 ? 1 : 3) {
    const int32_t column = i / 4 * 8 + i % 2;
    if (column < begin || column >= past) score[i] = UNSEEN;
  }
}

// A thread's weights as the left operand of the product with the values.
template <WgmmaFormat FORMAT>
DEVICE void pack_weights(uint32_t (&weights)[KEY_ROWS / 16][4], const float (&p)[KEY_ROWS / 2]) {
#pragma unroll
  for (uint32_t i = 0; i < KEY_ROWS / 2; i += 2) weights[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[i], p[i + 1]);
}

// A thread's place in the rings and turns of its block, for as many tiles of queries as come. BLOCKS of a cluster have
// the same keys.
template <WgmmaFormat FORMAT, uint32_t DIM, uint32_t STAGES, class OfStage, uint32_t BLOCKS = 1>
struct Turns {
  using Tiles = TurnTiles<KeyRing<DIM, STAGES, OfStage>>;
  Tiles& tiles;
  Place<STAGES> next;
  uint32_t q_parity = 0, turn_parity;

  DEVICE explicit Turns(Tiles& of) : tiles(of), turn_parity(which() ^ 1) {}  // the first one's first turn has come

  DEVICE static uint32_t which() { return threadIdx.x / WARPGROUP - 1; }

  // Waits for the next stage and passes it.
  DEVICE uint32_t take() {
    const uint32_t stage = next.stage;
    mbarrier_wait(tiles.full[stage], next.parity);
    next.advance();
    return stage;
  }
  // For its warp, when all of it has come.
  DEVICE static void arrive(Mbarrier& barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
  }

  // The same for a stage, which all blocks of the cluster fill.
  DEVICE void leave(uint32_t stage) {
    if constexpr (BLOCKS == 1) {
      arrive(tiles.empty[stage]);
    } else {
      __syncwarp();
      if (threadIdx.x % 32 < BLOCKS) mbarrier_arrive_at(tiles.empty[stage], threadIdx.x % 32);
    }
  }

  DEVICE void await_queries() {
    mbarrier_wait(tiles.q_full, q_parity);
    q_parity ^= 1;
  }

  // When the queries have come: sum = weights times values over all steps of the tile. `rows` caps and masks scores,
  // and has the scales that make base-2 logarithms of weights of them.
  template <class Rows>
  DEVICE void attend(const Rows& rows, OnlineSoftmax& softmax, float (&sum)[DIM / 2]) {
    float score[KEY_ROWS / 2], keep[2];
    uint32_t weights[KEY_ROWS / 16][4];
#pragma unroll
    for (uint32_t j = 0; j < DIM / 2; j++) sum[j] = 0.0f;
    uint32_t keys = take();
    OfStage step = tiles.step[keys];
    if (step.key == OfStage::END) {
      leave(keys);
      arrive(tiles.q_empty);
      return;
    }
    wgmma_fence();
    multiply_rows<FORMAT, DIM>(score, tiles.q, warpgroup_row(), tiles.ring[keys]);
    wgmma_commit();
    wgmma_wait<0>();
    leave(keys);
    rows.cap(score);
    rows.mask(score, step);
    softmax.take(score, keep, {rows.scale(0), rows.scale(1)});
    pack_weights<FORMAT>(weights, score);
    for (keys = take(); tiles.step[keys].key != OfStage::END; keys = take()) {
      step = tiles.step[keys];
      mbarrier_wait(tiles.turn[which()], turn_parity);
      turn_parity ^= 1;
      wgmma_fence();
      multiply_rows<FORMAT, DIM>(score, tiles.q, warpgroup_row(), tiles.ring[keys]);
      wgmma_commit();
      const uint32_t values = take();
      wgmma_fence();
      add_weighted_rows<FORMAT, DIM, KEY_ROWS>(sum, weights, tiles.ring[values]);
      wgmma_commit();
      arrive(tiles.turn[which() ^ 1]);
      wgmma_wait<1>();
      leave(keys);
      rows.cap(score);
      rows.mask(score, step);
      softmax.take(score, keep, {rows.scale(0), rows.scale(1)});
      wgmma_wait<0>();
      leave(values);
#pragma unroll
      for (uint32_t j = 0; j < DIM / 2; j++) sum[j] *= keep[j / 2 % 2];
      pack_weights<FORMAT>(weights, score);
    }
    leave(keys);
    arrive(tiles.q_empty);
    const uint32_t values = take();
    wgmma_fence();
    add_weighted_rows<FORMAT, DIM, KEY_ROWS>(sum, weights, tiles.ring[values]);
    wgmma_commit();
    wgmma_wait<0>();
    leave(values);
  }
};

// Stores a thread's sums of row r, divided, from `at` on in y of a format; all threads of a warp, those without such a
// row with `inside` false.
template <uint32_t DIM>
DEVICE void store_row(void* y, uint32_t format, uint64_t at, bool inside, const float (&sum)[DIM / 2], uint32_t r,
                      float inverse) {
  const uint32_t t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t d = 0; d < DIM; d += 32) {
    float2 pair[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; j++)
      pair[j] = make_float2(sum[d / 2 + 4 * j + 2 * r] * inverse, sum[d / 2 + 4 * j + 2 * r + 1] * inverse);
    if (format == FORMAT_F32) {
#pragma unroll
      for (uint32_t j = 0; j < 4; j++)
        if (inside) static_cast<float2*>(y)[(at + d + 8 * j) / 2 + t] = pair[j];
    } else {
      uint32_t word[4];
#pragma unroll
      for (uint32_t j = 0; j < 4; j++)
        word[j] = format == FORMAT_BF16 ? pack_pair<WgmmaFormat::bf16>(pair[j].x, pair[j].y)
                                        : pack_pair<WgmmaFormat::f16>(pair[j].x, pair[j].y);
      const uint4 chunk = gather_chunk(word[0], word[1], word[2], word[3]);
      if (inside) static_cast<uint4*>(y)[(at + d) / 8 + t] = chunk;
    }
  }
}
