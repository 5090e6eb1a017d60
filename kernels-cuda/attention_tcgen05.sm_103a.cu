// attention with qkv in bf16 or f16 and heads of 64 or 128 dims, on Blackwell: the call and its cut into items of 128
// queries are those of attention_wgmma.sm_90a.cu. One thread multiplies into tensor memory, scores of the next keys
// before the values of the ones at hand; two warpgroups take turns in the steps. A thread has a query of its own: it
// reads its scores twice, for their largest and for their weights, leaves those in 16 bits in shared memory as the
// left operand of the product with the values, and adds that product, which begins anew with every step, to sums in
// its registers: so nothing in tensor memory has to be scaled when the largest score grows. Each warpgroup has a
// softmax of its own; at the end of an item both are joined, and each stores half of the dims.
//
// Step of 128 queries by 128 keys, D dims: 2 products of 128 x 128 x D, 8 D cycles of tensor cores at 4,096
// multiply-adds a cycle, 1,024 for D = 128 and 512 for 64. 16,384 exponentials are 512 cycles of 32 a cycle. Of tensor
// memory two reads of the scores and one of the sums, 192 KB (160) of its 2 KB a cycle, 96 cycles. Instructions: two
// compares and a multiply-add, an exponential, half a conversion for a score, D / 128 multiply-adds for a sum: about 7
// for a score, 900 cycles of four schedulers, which limits at D = 64 (57% of tensor cores), and is near tensor cores at
// 128. Shared memory: products of scores 2 operands of 256 D bytes, of values the same and 32 KB of weights written and
// read: 1,300 cycles at D = 128, the limit there (79%), 800 at 64. Keys and values are 512 D bytes from L2, 64 a cycle.
// 4,096 causal rows of 32 heads of 128 dims, 137 GFLOP: 16,896 steps of 1,300 cycles on 148 multiprocessors, 78 us at
// 1.9 GHz, 1.7 PFLOP/s, if nothing waits.
#include <type_traits>

#include "lib/attention_items.h"
#include "lib/attention_softmax.h"
#include "lib/barrier.h"
#include "lib/tcgen05.h"
#include "lib/warpgroup.h"

// The third warpgroup copies and multiplies by a warp each; its registers go to the two others.
constexpr uint32_t WARPGROUP = 128, SOFTMAX_WARPS = 8, COPYING_WARP = 8, MULTIPLYING_WARP = 9;
constexpr uint32_t BOX_BYTES = KEY_ROWS * 128, JOINING = 1;
// Columns of tensor memory: scores of both warpgroups, then their steps' sums.
constexpr uint32_t TENSOR_COLUMNS = 512, FIRST_SUMS = 2 * KEY_ROWS;

// Of each warpgroup; weights give way to the sums that it leaves to the other.
template <uint32_t DIM>
union Exchange {
  Boxes<KEY_ROWS, QUERY_ROWS> weights;
  float sums[DIM / 2][QUERY_ROWS];
};

template <uint32_t DIM, uint32_t STAGES>
struct Shared {
  Exchange<DIM> exchange[2];
  Tiles<DIM, STAGES> tiles;
  float top[2][QUERY_ROWS], total[2][QUERY_ROWS];
  Mbarrier scored[2], weighed[2], summed[2];
  uint32_t tensor_memory;
};

// The turns of the steps of all items: which warpgroup's one is, and in which parity of its barriers.
struct Turn {
  uint32_t step = 0;
  DEVICE uint32_t warpgroup() const { return step % 2; }
  DEVICE uint32_t parity() const { return step / 2 % 2; }
};

template <Tcgen05Format FORMAT, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void multiply(Shared<DIM, STAGES>& shared, const Items<Storage>& items) {
  Tiles<DIM, STAGES>& tiles = shared.tiles;
  const uint32_t tensor_memory = shared.tensor_memory;
  Place<STAGES> next;
  Turn turn;
  uint32_t q_parity = 0;
  const auto take = [&] {
    const uint32_t stage = next.stage;
    mbarrier_wait(tiles.full[stage], next.parity);
    next.advance();
    return stage;
  };
  const auto multiply_keys = [&](uint32_t keys, uint32_t slot) {
#pragma unroll
    for (uint32_t d = 0; d < DIM; d += 16)
      tcgen05_mma<FORMAT>(tensor_memory + slot * KEY_ROWS, tcgen05_rows(tiles.q[d / BOX_DIMS], d % BOX_DIMS * 2),
                          tcgen05_rows(tiles.ring[keys][d / BOX_DIMS], d % BOX_DIMS * 2),
                          tcgen05_instruction(FORMAT, QUERY_ROWS, KEY_ROWS), d > 0);
    tcgen05_commit(tiles.empty[keys]);
    tcgen05_commit(shared.scored[slot]);
  };
  for (uint32_t round = 0; item_of_round(round) < items.count(); round++, q_parity ^= 1) {
    mbarrier_wait(tiles.q_full, q_parity);
    uint32_t keys = take();
    bool more = tiles.step[keys].key != Step::END;
    if (more) {
      multiply_keys(keys, turn.warpgroup());
    } else {
      mbarrier_arrive(tiles.empty[keys]);
      mbarrier_arrive(tiles.q_empty);
    }
    for (; more; turn.step++) {
      const uint32_t slot = turn.warpgroup();
      keys = take();
      more = tiles.step[keys].key != Step::END;
      if (more) {
        multiply_keys(keys, slot ^ 1);
      } else {
        mbarrier_arrive(tiles.empty[keys]);
        tcgen05_commit(tiles.q_empty);
      }
      const uint32_t values = take();
      mbarrier_wait(shared.weighed[slot], turn.parity());
      tcgen05_fence_after();
#pragma unroll
      for (uint32_t k = 0; k < KEY_ROWS; k += 16)
        tcgen05_mma<FORMAT>(tensor_memory + FIRST_SUMS + slot * DIM,
                            tcgen05_rows(shared.exchange[slot].weights[k / BOX_DIMS], k % BOX_DIMS * 2),
                            tcgen05_columns(tiles.ring[values], BOX_BYTES, k),
                            tcgen05_instruction(FORMAT, QUERY_ROWS, DIM) | TCGEN05_B_COLUMNS, k > 0);
      tcgen05_commit(tiles.empty[values]);
      tcgen05_commit(shared.summed[slot]);
    }
  }
}

// A thread's query and the keys it may see by their place.
struct OwnQuery {
  uint32_t row, head, document, begin, past;

  template <class Storage>
  DEVICE OwnQuery(const Items<Storage>& items, const Item& item) {
    const Dense<Storage>& call = items.call;
    const uint32_t at = threadIdx.x % WARPGROUP;
    row = item.first + at % items.cut.span;
    head = item.head + at / items.cut.span;
    document = call.document(min(row, item.last));
    begin = call.window > 0 && row >= call.window ? row + 1 - call.window : 0;
    past = call.causal ? min(row + 1, item.end) : item.end;
  }

  // Scores of keys from `key` on that the query may not see become UNSEEN.
  template <uint32_t LOADED, class Storage>
  DEVICE void mask(float (&score)[LOADED], const Dense<Storage>& call, const Item& item, const Step& step,
                   uint32_t key) const {
    if (key < begin || key + LOADED > past) {
      const int32_t from = static_cast<int32_t>(begin - key), to = static_cast<int32_t>(past - key);
#pragma unroll
      for (int32_t i = 0; i < static_cast<int32_t>(LOADED); i++)
        if (i < from || i >= to) score[i] = UNSEEN;
    }
    if (step.documents)
#pragma unroll
      for (uint32_t i = 0; i < LOADED; i++) {
        const uint32_t other = call.document(min(key + i, item.end - 1));
        if (other != document || document == PADDING) score[i] = UNSEEN;
      }
  }
};

// Joins both warpgroups' sums of half of the dims, and stores them.
template <WgmmaFormat FORMAT, uint32_t HALF, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void store_half(Shared<DIM, STAGES>& shared, const float (&sum)[DIM], float top, float total,
                       const OwnQuery& own, const Item& item, const Items<Storage>& items, void* y, float* lse,
                       uint32_t out_bits) {
  constexpr uint32_t OTHER = HALF ^ 1, FIRST = HALF * (DIM / 2), LEFT = OTHER * (DIM / 2);
  const uint32_t at = threadIdx.x % WARPGROUP;
  // All products with weights are done by then.
  barrier_sync(JOINING, 2 * WARPGROUP);
#pragma unroll
  for (uint32_t d = 0; d < DIM / 2; d++) shared.exchange[HALF].sums[d][at] = sum[LEFT + d];
  shared.top[HALF][at] = top;
  shared.total[HALF][at] = total;
  barrier_sync(JOINING, 2 * WARPGROUP);
  const float other_top = shared.top[OTHER][at], most = fmaxf(top, other_top), base = most == UNSEEN ? 0.0f : most;
  const float keep = fast_exp2(top - base), other_keep = fast_exp2(other_top - base);
  const float all = total * keep + shared.total[OTHER][at] * other_keep, inverse = all > 0.0f ? 1.0f / all : 0.0f;
  if (own.row <= item.last) {
    const uint64_t head_row = static_cast<uint64_t>(own.row) * items.call.heads + own.head;
    if (HALF == 0) lse[head_row] = all > 0.0f ? (most + log2f(all)) * LN_2 : MASKED;
#pragma unroll
    for (uint32_t d = 0; d < DIM / 2; d += 8) {
      float value[8];
#pragma unroll
      for (uint32_t j = 0; j < 8; j++)
        value[j] = (sum[FIRST + d + j] * keep + shared.exchange[OTHER].sums[d + j][at] * other_keep) * inverse;
      const uint64_t first = head_row * DIM + FIRST + d;
      if (out_bits == 32) {
        static_cast<float4*>(y)[first / 4] = make_float4(value[0], value[1], value[2], value[3]);
        static_cast<float4*>(y)[first / 4 + 1] = make_float4(value[4], value[5], value[6], value[7]);
      } else {
        static_cast<uint4*>(y)[first / 8] =
          make_uint4(pack_pair<FORMAT>(value[0], value[1]), pack_pair<FORMAT>(value[2], value[3]),
                     pack_pair<FORMAT>(value[4], value[5]), pack_pair<FORMAT>(value[6], value[7]));
      }
    }
  }
  // The next item's weights come where the sums were.
  barrier_sync(JOINING, 2 * WARPGROUP);
}

template <WgmmaFormat FORMAT, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void weigh(Shared<DIM, STAGES>& shared, const Items<Storage>& items, void* y, float* lse,
                  const ScoreScale& scores, uint32_t out_bits) {
  Tiles<DIM, STAGES>& tiles = shared.tiles;
  const Dense<Storage>& call = items.call;
  // Beside sums of 128 dims there are no registers for more.
  constexpr uint32_t LOADED = DIM == 128 ? 16 : 32;
  const uint32_t warpgroup = threadIdx.x / WARPGROUP, at = threadIdx.x % WARPGROUP, lanes = at / 32 * 32;
  const uint32_t own_scores = tmem_lane(shared.tensor_memory + warpgroup * KEY_ROWS, lanes);
  const uint32_t own_sums = tmem_lane(shared.tensor_memory + FIRST_SUMS + warpgroup * DIM, lanes);
  const bool arrives = threadIdx.x % 32 == 0;
  Place<STAGES> next;
  Turn turn;
  // Every warp passes every stage: it may need what the stage says of its step.
  const auto take = [&] {
    mbarrier_wait(tiles.full[next.stage], next.parity);
    const Step step = tiles.step[next.stage];
    __syncwarp();
    if (arrives) mbarrier_arrive(tiles.empty[next.stage]);
    next.advance();
    return step;
  };
  for (uint32_t round = 0; item_of_round(round) < items.count(); round++) {
    const Item item = items.at(item_of_round(round));
    const OwnQuery own(items, item);
    float sum[DIM] = {}, top = UNSEEN, total = 0.0f, score[LOADED];
    const auto load_scores = [&](const Step& step, uint32_t first) {
      tmem_load(score, own_scores + first);
      tmem_wait(score);
      scores.cap(score);
      own.mask(score, call, item, step, step.key + first);
    };
    for (bool first_step = true;; first_step = false, turn.step++) {
      const Step step = take();
      if (!first_step) take();
      if (step.key == Step::END) break;
      if (turn.warpgroup() != warpgroup) continue;
      mbarrier_wait(shared.scored[warpgroup], turn.parity());
      tcgen05_fence_after();
      float largest = UNSEEN;
#pragma unroll 1
      for (uint32_t first = 0; first < KEY_ROWS; first += LOADED) {
        load_scores(step, first);
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j++) largest = fmaxf(largest, score[j]);
      }
      const float new_top = fmaxf(top, scores.scale * largest), base = new_top == UNSEEN ? 0.0f : new_top;
      const float keep = fast_exp2(top - base);
      top = new_top;
      total *= keep;
#pragma unroll 1
      for (uint32_t first = 0; first < KEY_ROWS; first += LOADED) {
        load_scores(step, first);
        uint4* to = reinterpret_cast<uint4*>(shared.exchange[warpgroup].weights[first / BOX_DIMS][at]);
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j += 8) {
          float weight[8];
#pragma unroll
          for (uint32_t l = 0; l < 8; l++) {
            weight[l] = fast_exp2(fmaf(score[j + l], scores.scale, -base));
            total += weight[l];
          }
          // As lib/tma.h leaves rows: chunk c of row r at place c ^ (r % 8).
          to[(first % BOX_DIMS + j) / 8 ^ at % 8] =
            make_uint4(pack_pair<FORMAT>(weight[0], weight[1]), pack_pair<FORMAT>(weight[2], weight[3]),
                       pack_pair<FORMAT>(weight[4], weight[5]), pack_pair<FORMAT>(weight[6], weight[7]));
        }
      }
      fence_proxy_async();
      tcgen05_fence_before();
      __syncwarp();
      if (arrives) mbarrier_arrive(shared.weighed[warpgroup]);
      mbarrier_wait(shared.summed[warpgroup], turn.parity());
      tcgen05_fence_after();
#pragma unroll
      for (uint32_t d = 0; d < DIM; d += LOADED) {
        tmem_load(score, own_sums + d);
        tmem_wait(score);
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j++) sum[d + j] = fmaf(sum[d + j], keep, score[j]);
      }
    }
    if (warpgroup == 0)
      store_half<FORMAT, 0>(shared, sum, top, total, own, item, items, y, lse, out_bits);
    else
      store_half<FORMAT, 1>(shared, sum, top, total, own, item, items, y, lse, out_bits);
  }
  tcgen05_fence_before();
}

template <class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void attention_tcgen05(const TensorMap& qkv, const Dense<Storage>& call, const Cut& cut, void* y, float* lse,
                              float scale, float softcap, uint32_t out_bits) {
  constexpr bool BF = std::is_same_v<Storage, BF16>;
  using Memory = Shared<DIM, STAGES>;
  DYNAMIC_SHARED(shared, Memory);
  Tiles<DIM, STAGES>& tiles = shared.tiles;
  const uint32_t warp = threadIdx.x / 32;
  if (warp == MULTIPLYING_WARP) {
    tmem_alloc(shared.tensor_memory, TENSOR_COLUMNS);
    tmem_relinquish();
  }
  if (threadIdx.x == 0) {
    tiles.init(1, SOFTMAX_WARPS + 1);
    for (uint32_t w = 0; w < 2; w++) {
      mbarrier_init(shared.scored[w], 1);
      mbarrier_init(shared.weighed[w], SOFTMAX_WARPS / 2);
      mbarrier_init(shared.summed[w], 1);
    }
    mbarrier_fence_init();
  }
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  const Items<Storage> items(call, cut);
  if (warp < SOFTMAX_WARPS) {
    registers_take<208>();
    weigh<BF ? WgmmaFormat::bf16 : WgmmaFormat::f16>(shared, items, y, lse, ScoreScale(scale, softcap), out_bits);
  } else {
    registers_give_back<88>();
    if (warp == COPYING_WARP) produce(tiles, qkv, items);
    if (warp == MULTIPLYING_WARP && threadIdx.x % 32 == 0)
      multiply<BF ? Tcgen05Format::bf16 : Tcgen05Format::f16>(shared, items);
  }
  __syncthreads();
  tcgen05_fence_after();
  if (warp == MULTIPLYING_WARP) tmem_free(shared.tensor_memory, TENSOR_COLUMNS);
}

static_assert(sizeof(Shared<64, 8>) == 215312 && sizeof(Shared<128, 4>) == 231600);

KERNEL_SHARED(attention_tcgen05_bf16_64, 384, 215312, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
              float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal, uint32_t window,
              uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap, uint32_t out_bits) {
  attention_tcgen05<BF16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                 {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_tcgen05_bf16_128, 384, 231600, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
              float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal, uint32_t window,
              uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap, uint32_t out_bits) {
  attention_tcgen05<BF16, 128, 4>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                 {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_tcgen05_f16_64, 384, 215312, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
              float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal, uint32_t window,
              uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap, uint32_t out_bits) {
  attention_tcgen05<F16, 64, 8>(qkv, {nullptr, documents, heads, kv_heads, 64, sequence, causal, window},
                                 {rows, span, section}, y, lse, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_tcgen05_f16_128, 384, 231600, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
              float* lse, uint32_t heads, uint32_t kv_heads, uint32_t sequence, uint32_t causal, uint32_t window,
              uint32_t rows, uint32_t span, uint32_t section, float scale, float softcap, uint32_t out_bits) {
  attention_tcgen05<F16, 128, 4>(qkv, {nullptr, documents, heads, kv_heads, 128, sequence, causal, window},
                                 {rows, span, section}, y, lse, scale, softcap, out_bits);
}
