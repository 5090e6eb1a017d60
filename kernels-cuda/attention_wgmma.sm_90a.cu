// attention with qkv in bf16 or f16 and heads of 64 or 128 dims, on Hopper: y = softmax(mask(scale q k^T)) v inside
// blocks of `sequence` rows, with lse = log(sum(exp(scores))). A persistent block takes tiles of 128 queries. One warp
// has the copy engine bring the queries once, then keys and values by turns into a ring of stages; two warpgroups have
// 64 queries each, whose scores, weights and sums stay in registers: weights become 16 bits there and are the left
// operand of the product with the values. A warpgroup issues the scores of the next keys before the values of the ones
// at hand, and takes exponentials while they are multiplied; the two issue by turns, so that one's exponentials are
// hidden by the other's products.
//
// The producer decides which keys a tile takes: none that its queries cannot see by their place, nor, with documents,
// those whose numbers lie in another range. Masks are computed where a tile may need them only. Where the queries of a
// head are few, a tile has those of several heads that share keys. A tile's keys may reach past its block's end, to
// rows of the next block: their weights are 0, so their numbers are to be finite.
//
// Tile of 128 queries by 128 keys, D dims: 2 products of 128 x 128 x D, 16 D cycles of tensor cores at 2,048
// multiply-adds a cycle, 2,048 for D = 128 and 1,024 for 64; 16,384 exponentials, 1,024 cycles of 16 a cycle; about 4.5
// instructions for each, 576 cycles of four schedulers. So tensor cores limit at D = 128, and they and exponentials
// alike at 64. Shared memory gives products of scores 96 bytes of its 128 a cycle, those of values 64. Keys and values
// are 512 D bytes, 32 a cycle from L2, of about 64 that a multiprocessor can take; heads run in sections whose keys and
// values fit there. 4,096 causal rows of 32 heads of 128 dims are 137 GFLOP, 139 us at 989 TFLOP/s; 528 tiles of a head
// where 512 hold all pairs (97%). At 75% that is 0.19 ms, 740 TFLOP/s.
#include <type_traits>

#include "lib/attention_items.h"
#include "lib/attention_softmax.h"
#include "lib/warpgroup.h"

constexpr uint32_t WARPGROUP = 128, WARPGROUP_ROWS = 64, CONSUMER_WARPS = 8;

template <uint32_t DIM, uint32_t STAGES>
struct TurnTiles : Tiles<DIM, STAGES> {
  Mbarrier turn[2];  // a phase is over when it is the warpgroup's turn to issue
};

// A thread's two rows of its item, eight apart in the tile, and what their warpgroup's have in common.
struct OwnRows {
  uint32_t row[2], head[2], document[2];
  uint32_t first, last;  // rows of the warpgroup

  template <class Storage>
  DEVICE OwnRows(const Items<Storage>& items, const Item& item) {
    const uint32_t span = items.cut.span, above = (threadIdx.x / WARPGROUP - 1) * WARPGROUP_ROWS;
    first = item.first + above % span;
    last = first + min(span, WARPGROUP_ROWS) - 1;
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      const uint32_t at = above + threadIdx.x % WARPGROUP / 32 * 16 + threadIdx.x % 32 / 4 + 8 * r;
      row[r] = item.first + at % span;
      head[r] = item.head + at / span;
      document[r] = items.call.document(min(row[r], item.last));
    }
  }
};

// Scores that a row may not see become UNSEEN.
template <class Storage>
DEVICE void mask(float (&score)[KEY_ROWS / 2], const Dense<Storage>& call, const OwnRows& own, const Item& item,
                 const Step& step) {
  // Of this thread's score i: column i / 4 * 8 + i % 2 from here on, row i / 2 % 2.
  const uint32_t here = step.key + threadIdx.x % 4 * 2;
  const bool past_end = step.key + KEY_ROWS > item.end;
  const bool ahead = call.causal && step.key + KEY_ROWS - 1 > own.first;
  const bool behind = call.window > 0 && own.last >= call.window && step.key <= own.last - call.window;
  if (past_end || ahead || behind) {
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      const uint32_t row = own.row[r], past = call.causal ? min(row + 1, item.end) : item.end;
      const uint32_t begin = call.window > 0 && row >= call.window ? row + 1 - call.window : 0;
      const int32_t from = static_cast<int32_t>(begin - here), to = static_cast<int32_t>(past - here);
#pragma unroll
      for (uint32_t i = 2 * r; i < KEY_ROWS / 2; i += i % 2 == 0 ? 1 : 3) {
        const int32_t column = i / 4 * 8 + i % 2;
        if (column < from || column >= to) score[i] = UNSEEN;
      }
    }
  }
  if (step.documents)
#pragma unroll
    for (uint32_t i = 0; i < KEY_ROWS / 2; i++) {
      const uint32_t document = call.document(min(here + i / 4 * 8 + i % 2, item.end - 1));
      if (document != own.document[i / 2 % 2] || document == PADDING) score[i] = UNSEEN;
    }
}

// Stores a thread's sums, divided, of its two rows.
template <WgmmaFormat FORMAT, uint32_t DIM>
DEVICE void store_items(void* y, uint32_t out_bits, uint32_t heads, const float (&sum)[DIM / 2], const OwnRows& own,
                       const Item& item, const OnlineSoftmax& softmax) {
  const uint32_t t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t r = 0; r < 2; r++) {
    const float inverse = softmax.inverse(r);
    const bool inside = own.row[r] <= item.last;
    const uint64_t at = (static_cast<uint64_t>(own.row[r]) * heads + own.head[r]) * DIM;
#pragma unroll
    for (uint32_t d = 0; d < DIM; d += 32) {
      float2 pair[4];
#pragma unroll
      for (uint32_t j = 0; j < 4; j++)
        pair[j] = make_float2(sum[d / 2 + 4 * j + 2 * r] * inverse, sum[d / 2 + 4 * j + 2 * r + 1] * inverse);
      if (out_bits == 32) {
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
          if (inside) static_cast<float2*>(y)[(at + d + 8 * j) / 2 + t] = pair[j];
      } else {
        uint32_t word[4];
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) word[j] = pack_pair<FORMAT>(pair[j].x, pair[j].y);
        const uint4 chunk = gather_chunk(word[0], word[1], word[2], word[3]);
        if (inside) static_cast<uint4*>(y)[(at + d) / 8 + t] = chunk;
      }
    }
  }
}

// A thread's weights as the left operand of the product with the values.
template <WgmmaFormat FORMAT>
DEVICE void pack_weights(uint32_t (&weights)[KEY_ROWS / 16][4], const float (&p)[KEY_ROWS / 2]) {
#pragma unroll
  for (uint32_t i = 0; i < KEY_ROWS / 2; i += 2) weights[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[i], p[i + 1]);
}

template <WgmmaFormat FORMAT, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void consume(TurnTiles<DIM, STAGES>& tiles, const Items<Storage>& items, void* y, float* lse,
                    const ScoreScale& scores, uint32_t out_bits) {
  const Dense<Storage>& call = items.call;
  const uint32_t which = threadIdx.x / WARPGROUP - 1, above = which * WARPGROUP_ROWS;
  const bool arrives = threadIdx.x % 32 == 0;
  Place<STAGES> next;
  uint32_t q_parity = 0, turn_parity = which ^ 1;  // the first warpgroup's first turn has come
  // Waits for the next stage and passes it.
  const auto take = [&] {
    const uint32_t stage = next.stage;
    mbarrier_wait(tiles.full[stage], next.parity);
    next.advance();
    return stage;
  };
  // For its warp, when all of it has come.
  const auto arrive = [&](Mbarrier& barrier) {
    __syncwarp();
    if (arrives) mbarrier_arrive(barrier);
  };
  for (uint32_t round = 0; items.own(round) < items.count(); round++, q_parity ^= 1) {
    const Item item = items.at(items.own(round));
    const OwnRows own(items, item);
    OnlineSoftmax softmax;
    float sum[DIM / 2] = {}, score[KEY_ROWS / 2], keep[2];
    uint32_t weights[KEY_ROWS / 16][4];
    mbarrier_wait(tiles.q_full, q_parity);
    uint32_t keys = take();
    Step step = tiles.step[keys];
    if (step.key != Step::END) {
      wgmma_fence();
      multiply_rows<FORMAT, DIM>(score, tiles.q, above, tiles.ring[keys]);
      wgmma_commit();
      wgmma_wait<0>();
      arrive(tiles.empty[keys]);
      scores.cap(score);
      mask(score, call, own, item, step);
      softmax.take(score, keep, scores.scale);
      pack_weights<FORMAT>(weights, score);
      for (keys = take(); tiles.step[keys].key != Step::END; keys = take()) {
        step = tiles.step[keys];
        mbarrier_wait(tiles.turn[which], turn_parity);
        turn_parity ^= 1;
        wgmma_fence();
        multiply_rows<FORMAT, DIM>(score, tiles.q, above, tiles.ring[keys]);
        wgmma_commit();
        const uint32_t values = take();
        wgmma_fence();
        add_weighted_rows<FORMAT, DIM, KEY_ROWS>(sum, weights, tiles.ring[values]);
        wgmma_commit();
        arrive(tiles.turn[which ^ 1]);
        wgmma_wait<1>();
        arrive(tiles.empty[keys]);
        scores.cap(score);
        mask(score, call, own, item, step);
        softmax.take(score, keep, scores.scale);
        wgmma_wait<0>();
        arrive(tiles.empty[values]);
#pragma unroll
        for (uint32_t j = 0; j < DIM / 2; j++) sum[j] *= keep[j / 2 % 2];
        pack_weights<FORMAT>(weights, score);
      }
      arrive(tiles.empty[keys]);
      arrive(tiles.q_empty);
      const uint32_t values = take();
      wgmma_fence();
      add_weighted_rows<FORMAT, DIM, KEY_ROWS>(sum, weights, tiles.ring[values]);
      wgmma_commit();
      wgmma_wait<0>();
      arrive(tiles.empty[values]);
    } else {
      arrive(tiles.empty[keys]);
      arrive(tiles.q_empty);
    }
    softmax.join();
#pragma unroll
    for (uint32_t r = 0; r < 2; r++)
      if (threadIdx.x % 4 == 0 && own.row[r] <= item.last)
        lse[static_cast<uint64_t>(own.row[r]) * call.heads + own.head[r]] = softmax.log_sum(r, MASKED);
    store_items<FORMAT, DIM>(y, out_bits, call.heads, sum, own, item, softmax);
  }
}

template <class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void attention_wgmma(const TensorMap& qkv, const Dense<Storage>& call, const Cut& cut,
                            void* y, float* lse, float scale, float softcap, uint32_t out_bits) {
  constexpr WgmmaFormat FORMAT = std::is_same_v<Storage, BF16> ? WgmmaFormat::bf16 : WgmmaFormat::f16;
  using Shared = TurnTiles<DIM, STAGES>;
  DYNAMIC_SHARED(tiles, Shared);
  if (threadIdx.x == 0) {
    mbarrier_init(tiles.q_full, 1);
    mbarrier_init(tiles.q_empty, CONSUMER_WARPS);
    for (uint32_t s = 0; s < STAGES; s++) {
      mbarrier_init(tiles.full[s], 1);
      mbarrier_init(tiles.empty[s], CONSUMER_WARPS);
    }
    for (uint32_t w = 0; w < 2; w++) mbarrier_init(tiles.turn[w], CONSUMER_WARPS / 2);
    mbarrier_fence_init();
  }
  __syncthreads();
  const Items<Storage> items(call, cut);
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<40>();
    if (threadIdx.x < 32) produce(tiles, qkv, items);
  } else {
    registers_take<232>();
    consume<FORMAT>(tiles, items, y, lse, ScoreScale(scale, softcap), out_bits);
  }
}

static_assert(sizeof(TurnTiles<64, 8>) == 147680 && sizeof(TurnTiles<128, 6>) == 229552);

KERNEL_SHARED(attention_wgmma_bf16_64, 384, 147680, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<BF16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_f16_64, 384, 147680, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<F16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_bf16_128, 384, 229552, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<BF16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_f16_128, 384, 229552, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<F16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}
