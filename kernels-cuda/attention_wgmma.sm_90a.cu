// attention with qkv in bf16 or f16 and heads of 64 or 128 dims, on Hopper: y = softmax(mask(scale q k^T)) v inside
// blocks of `sequence` rows, with lse = log(sum(exp(scores))). A persistent block takes tiles of 128 queries. One warp
// has the copy engine bring the queries once, then keys and values by turns into a ring of stages; two warpgroups have
// 64 queries each (lib/attention_turns.h).
//
// The producer decides which keys a tile takes: none that its queries cannot see by their place, nor, with documents,
// those whose numbers lie in another range. Masks are computed where a tile may need them only. Where the queries of a
// head are few, a tile has those of several heads that share keys. A tile's keys may reach past its block's end, to
// rows of the next block: their weights are 0, and their values become 0 when they have come, whatever they were.
//
// Where heads share keys, two blocks of a cluster have the same rows of two of them (pair): each brings half of the
// keys and values to both.
//
// Tile of 128 queries by 128 keys, D dims: 2 products of 128 x 128 x D, 16 D cycles of tensor cores at 2,048
// multiply-adds a cycle, 2,048 for D = 128 and 1,024 for 64; 16,384 exponentials, 1,024 cycles of 16 a cycle; about 4.5
// instructions for each, 576 cycles of four schedulers. So tensor cores limit at D = 128, and they and exponentials
// alike at 64. Shared memory gives products of scores 96 bytes of its 128 a cycle, those of values 64. Keys and values
// are 512 D bytes from L2, 32 a cycle, of about 27 that each multiprocessor gets when all read (5.5 to 6 TB/s, by
// measurements others published): 19 D cycles, the limit of a block alone. A pair takes 16 a cycle for each. Heads run
// in sections whose keys and values fit there. 4,096 causal rows of 32 heads of 128 dims are 137 GFLOP, 139 us at 989
// TFLOP/s; 528 tiles of a head where 512 hold all pairs (97%). At 75%, by pairs, that is 0.19 ms, 740 TFLOP/s.
#include <type_traits>

#include "lib/attention_items.h"
#include "lib/attention_turns.h"

// A thread's two rows of its item and what their warpgroup's have in common.
template <class Storage>
struct OwnRows {
  const Dense<Storage>& call;
  const Item item;
  const ScoreScale scores;
  uint32_t row[2], head[2], document[2];
  uint32_t first, last;  // rows of the warpgroup

  DEVICE OwnRows(const Items<Storage>& items, const Item& own, const ScoreScale& by)
      : call(items.call), item(own), scores(by) {
    const uint32_t span = items.cut.span;
    first = item.first + warpgroup_row() % span;
    last = first + min(span, WARPGROUP_ROWS) - 1;
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      const uint32_t at = thread_row() + 8 * r;
      row[r] = item.first + at % span;
      head[r] = item.head + at / span;
      document[r] = call.document(min(row[r], item.last));
    }
  }

  DEVICE float scale(uint32_t) const { return scores.scale; }
  DEVICE void cap(float (&score)[KEY_ROWS / 2]) const { scores.cap(score); }

  // Scores that a row may not see become UNSEEN.
  DEVICE void mask(float (&score)[KEY_ROWS / 2], const Step& step) const {
    const uint32_t here = step.key + thread_column();
    const bool past_end = step.key + KEY_ROWS > item.end;
    const bool ahead = call.causal && step.key + KEY_ROWS - 1 > first;
    const bool behind = call.window > 0 && last >= call.window && step.key <= last - call.window;
    if (past_end || ahead || behind) {
#pragma unroll
      for (uint32_t r = 0; r < 2; r++) {
        const uint32_t past = call.causal ? min(row[r] + 1, item.end) : item.end;
        const uint32_t begin = call.window > 0 && row[r] >= call.window ? row[r] + 1 - call.window : 0;
        mask_row(score, r, static_cast<int32_t>(begin - here), static_cast<int32_t>(past - here));
      }
    }
    if (step.documents) {
      // Bit c of a row: whether it sees the c-th of the thread's columns. Numbers of all at once would take registers
      // that scores and sums have.
      uint32_t seen[2] = {0, 0};
#pragma unroll 4
      for (uint32_t c = 0; c < KEY_ROWS / 4; c++) {
        const uint32_t other = call.document(min(here + c / 2 * 8 + c % 2, item.end - 1));
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
          const bool sees = other == document[r] && other != PADDING;
          seen[r] |= static_cast<uint32_t>(sees) << c;
        }
      }
#pragma unroll
      for (uint32_t i = 0; i < KEY_ROWS / 2; i++)
        if ((seen[i / 2 % 2] >> (i / 4 * 2 + i % 2) & 1) == 0) score[i] = UNSEEN;
    }
  }
};

template <uint32_t BLOCKS, WgmmaFormat FORMAT, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void consume(TurnTiles<Tiles<DIM, STAGES>>& tiles, const Items<Storage>& items, void* y, float* lse,
                    const ScoreScale& scores, uint32_t out_bits) {
  const uint32_t format = out_bits == 32 ? FORMAT_F32 : FORMAT == WgmmaFormat::bf16 ? FORMAT_BF16 : FORMAT_F16;
  const uint32_t heads = items.call.heads;
  Turns<FORMAT, DIM, STAGES, Step, BLOCKS> turns(tiles);
  for (uint32_t round = 0; item_of_round(round, BLOCKS) < items.count(); round++) {
    const OwnRows<Storage> own(items, items.at(item_of_round(round, BLOCKS)), scores);
    OnlineSoftmax softmax;
    float sum[DIM / 2];
    turns.await_queries();
    turns.attend(own, softmax, sum);
    softmax.join();
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
      const uint64_t at = static_cast<uint64_t>(own.row[r]) * heads + own.head[r];
      const bool inside = own.row[r] <= own.item.last;
      if (threadIdx.x % 4 == 0 && inside) lse[at] = softmax.log_sum(r, MASKED);
      store_row<DIM>(y, format, at * DIM, inside, sum, r, softmax.inverse(r));
    }
  }
}

template <uint32_t BLOCKS, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void attention_wgmma(const TensorMap& qkv, const Dense<Storage>& call, const Cut& cut,
                            void* y, float* lse, float scale, float softcap, uint32_t out_bits) {
  constexpr WgmmaFormat FORMAT = std::is_same_v<Storage, BF16> ? WgmmaFormat::bf16 : WgmmaFormat::f16;
  using Shared = TurnTiles<Tiles<DIM, STAGES>>;
  DYNAMIC_SHARED(tiles, Shared);
  if (threadIdx.x == 0) {
    tiles.init(1, 1, BLOCKS);
    mbarrier_fence_init();
  }
  if constexpr (BLOCKS > 1)
    cluster_sync();
  else
    __syncthreads();
  const Items<Storage> items(call, cut);
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<PRODUCER_REGISTERS>();
    if (threadIdx.x < 32) produce<BLOCKS>(tiles, qkv, items);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume<BLOCKS, FORMAT>(tiles, items, y, lse, ScoreScale(scale, softcap), out_bits);
  }
  if constexpr (BLOCKS > 1) cluster_sync();
}

static_assert(sizeof(TurnTiles<Tiles<64, 8>>) == 147688 && sizeof(TurnTiles<Tiles<128, 6>>) == 229560);

KERNEL_SHARED(attention_wgmma_bf16_64, 384, 147688, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<1, BF16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_f16_64, 384, 147688, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<1, F16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_bf16_128, 384, 229560, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<1, BF16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_wgmma_f16_128, 384, 229560, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<1, F16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_CLUSTER(attention_wgmma_pair_bf16_64, 384, 147688, 2, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<2, BF16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_CLUSTER(attention_wgmma_pair_f16_64, 384, 147688, 2, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<2, F16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_CLUSTER(attention_wgmma_pair_bf16_128, 384, 229560, 2, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<2, BF16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_CLUSTER(attention_wgmma_pair_f16_128, 384, 229560, 2, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents,
              void* y, float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal,
              uint32_t window, uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap,
              uint32_t out_bits) {
  attention_wgmma<2, F16, 128, 6>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                  {rows, span, section}, y, lse, scale, softcap, out_bits);
}
