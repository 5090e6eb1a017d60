// attention with qkv in bf16 or f16 and heads of 64 or 128 dims, on Blackwell: the call and its cut into items of 128
// queries are those of attention_wgmma.sm_90a.cu. One thread multiplies into tensor memory, scores of the next keys
// before the values of the ones at hand; two warpgroups take turns in the steps. A thread has a query of its own, a
// lane of tensor memory: it reads its scores twice, for their largest and for their weights, and stores those in 16
// bits over the scores, as the left operand of the product with the values. That product begins anew with every step
// and is added to sums in registers when the warpgroup's next step begins, behind the other's products: so nothing in
// tensor memory has to be scaled when the largest score grows, and nobody waits for a product just issued. Each
// warpgroup has a softmax of its own; at the end of an item both are joined, and each stores half of the dims.
//
// Tensor memory, 512 columns:   0 to 127 and 128 to 255   scores of each warpgroup; weights in the first half of them
//                            256 to 255 + D, and behind   sums of each warpgroup's step
//
// Step of 128 queries by 128 keys, D dims: 2 products of 128 x 128 x D, 8 D cycles of tensor cores at 4,096
// multiply-adds a cycle, 1,024 for D = 128 and 512 for 64. 16,384 exponentials are 512 cycles of 32 a cycle, twice what
// Blackwell had before: polynomials in their place would gain nothing. Instructions for a score: half of a compare
// (three operands), of a multiply-add, an addition (pairs) and a conversion each, an exponential, D / 128 multiply-adds
// for a sum: 4, 512 cycles of four schedulers (3.5, 450). Shared memory: scores 512 D bytes, values 256 D, 768 cycles
// for D = 128, and 512 for what the copy engine writes: 1,280 (640), which limits, at 80% of tensor cores; two tiles of
// queries that share keys would halve the latter. For D = 64 a warpgroup's exponentials have the other's 512 cycles of
// products to hide behind, and take as long: about 700. Keys and values are 512 D bytes from L2, 64 a cycle. 4,096
// causal rows of 32 heads of 128 dims, 137 GFLOP: 16,896 steps of 1,280 cycles on 148 multiprocessors, 77 us at 1.9
// GHz, 1.8 PFLOP/s, if nothing waits.
#include <type_traits>

#include "lib/attention_query.h"
#include "lib/attention_softmax.h"
#include "lib/barrier.h"
#include "lib/f32_pair.h"
#include "lib/tcgen05.h"
#include "lib/warpgroup.h"

// The third warpgroup copies and multiplies by a warp each; its registers go to the two others.
constexpr uint32_t SOFTMAX_WARPS = 8, COPYING_WARP = 8, MULTIPLYING_WARP = 9;
constexpr uint32_t BOX_BYTES = KEY_ROWS * 128, JOINING = 1;
// Columns of tensor memory: scores of both warpgroups, then their steps' sums.
constexpr uint32_t TENSOR_COLUMNS = 512, FIRST_SUMS = 2 * KEY_ROWS;

template <uint32_t DIM, uint32_t STAGES>
struct Shared {
  Tiles<DIM, STAGES> tiles;
  float sums[2][DIM / 2][QUERY_ROWS];  // that each warpgroup leaves to the other
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
        tcgen05_mma_ts<FORMAT>(tensor_memory + FIRST_SUMS + slot * DIM, tensor_memory + slot * KEY_ROWS + k / 2,
                               tcgen05_columns(tiles.ring[values], BOX_BYTES, k),
                               tcgen05_instruction(FORMAT, QUERY_ROWS, DIM) | TCGEN05_B_COLUMNS, k > 0);
      tcgen05_commit(tiles.empty[values]);
      tcgen05_commit(shared.summed[slot]);
    }
  }
}

// Joins both warpgroups' sums of half of the dims, and stores them.
template <WgmmaFormat FORMAT, uint32_t HALF, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void store_half(Shared<DIM, STAGES>& shared, const float (&sum)[DIM], float top, float total,
                       const OwnQuery& own, const Item& item, const Items<Storage>& items, void* y, float* lse,
                       uint32_t out_bits) {
  constexpr uint32_t OTHER = HALF ^ 1, FIRST = HALF * (DIM / 2), LEFT = OTHER * (DIM / 2);
  const uint32_t at = threadIdx.x % WARPGROUP;
#pragma unroll
  for (uint32_t d = 0; d < DIM / 2; d++) shared.sums[HALF][d][at] = sum[LEFT + d];
  shared.top[HALF][at] = top;
  shared.total[HALF][at] = total;
  barrier_sync(JOINING, 2 * WARPGROUP);
  const float other_top = shared.top[OTHER][at], most = fmaxf(top, other_top), base = most == UNSEEN ? 0.0f : most;
  const float keep = fast_exp2(top - base), other_keep = fast_exp2(other_top - base);
  const float all = total * keep + shared.total[OTHER][at] * other_keep, inverse = all > 0.0f ? 1.0f / all : 0.0f;
  if (own.row <= item.last) {
    const uint64_t head_row = static_cast<uint64_t>(own.row) * items.call.heads + item.head + at / items.cut.span;
    if (HALF == 0) lse[head_row] = all > 0.0f ? (most + log2f(all)) * LN_2 : MASKED;
#pragma unroll
    for (uint32_t d = 0; d < DIM / 2; d += 8) {
      float value[8];
#pragma unroll
      for (uint32_t j = 0; j < 8; j++)
        value[j] = (sum[FIRST + d + j] * keep + shared.sums[OTHER][d + j][at] * other_keep) * inverse;
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
  // The next item's sums come where these were.
  barrier_sync(JOINING, 2 * WARPGROUP);
}

template <WgmmaFormat FORMAT, class Storage, uint32_t DIM, uint32_t STAGES>
DEVICE void weigh(Shared<DIM, STAGES>& shared, const Items<Storage>& items, void* y, float* lse,
                  const ScoreScale& scores, uint32_t out_bits) {
  Tiles<DIM, STAGES>& tiles = shared.tiles;
  const Dense<Storage>& call = items.call;
  // Beside sums of 128 dims there are no registers for scores that are under way.
  constexpr uint32_t LOADED = 16, BUFFERS = DIM == 128 ? 1 : 2;
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
    float sum[DIM] = {}, top = UNSEEN, keep = 0.0f;
    float2 total = make_float2(0.0f, 0.0f);  // of even and of odd keys
    // Calls visit(score, first) for LOADED scores at a time, the next ones under way where there are two buffers.
    const auto for_scores = [&](const Step& step, const auto& visit) {
      float score[BUFFERS][LOADED];
      if (BUFFERS == 2) tmem_load(score[0], own_scores);
#pragma unroll 1
      for (uint32_t begin = 0; begin < KEY_ROWS; begin += BUFFERS * LOADED) {
#pragma unroll
        for (uint32_t b = 0; b < BUFFERS; b++) {
          const uint32_t first = begin + b * LOADED, coming = first + LOADED;
          if (BUFFERS == 1) tmem_load(score[0], own_scores + first);
          tmem_wait(score[b]);
          if (BUFFERS == 2 && coming < KEY_ROWS) tmem_load(score[(b + 1) % BUFFERS], own_scores + coming);
          scores.cap(score[b]);
          own.mask(score[b], call, item, step, step.key + first);
          visit(score[b], first);
        }
      }
    };
    // Adds the sums of this warpgroup's last step, whose product has been done behind the other's scores.
    constexpr uint32_t NONE = 2;
    uint32_t sums_parity = NONE;
    const auto add_sums = [&] {
      if (sums_parity == NONE) return;
      mbarrier_wait(shared.summed[warpgroup], sums_parity);
      tcgen05_fence_after();
#pragma unroll
      for (uint32_t d = 0; d < DIM; d += LOADED) {
        float loaded[LOADED];
        tmem_load(loaded, own_sums + d);
        tmem_wait(loaded);
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j++) sum[d + j] = fmaf(sum[d + j], keep, loaded[j]);
      }
    };
    for (bool first_step = true;; first_step = false, turn.step++) {
      const Step step = take();
      if (!first_step) take();
      if (step.key == Step::END) break;
      if (turn.warpgroup() != warpgroup) continue;
      add_sums();
      mbarrier_wait(shared.scored[warpgroup], turn.parity());
      tcgen05_fence_after();
      float largest = UNSEEN;
      for_scores(step, [&](const float(&score)[LOADED], uint32_t) {
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j += 2) largest = fmaxf(largest, fmaxf(score[j], score[j + 1]));
      });
      const float new_top = fmaxf(top, scores.scale * largest), base = new_top == UNSEEN ? 0.0f : new_top;
      keep = fast_exp2(top - base);
      top = new_top;
      total = multiply_pair(total, make_float2(keep, keep));
      for_scores(step, [&](const float(&score)[LOADED], uint32_t first) {
        const float2 one = make_float2(1.0f, 1.0f), scale = make_float2(scores.scale, scores.scale);
        uint32_t words[LOADED / 2];
#pragma unroll
        for (uint32_t j = 0; j < LOADED; j += 2) {
          const float2 power = multiply_add_pair(make_float2(score[j], score[j + 1]), scale, make_float2(-base, -base));
          const float2 weight = make_float2(fast_exp2(power.x), fast_exp2(power.y));
          total = multiply_add_pair(weight, one, total);
          words[j / 2] = pack_pair<FORMAT>(weight.x, weight.y);
        }
        // Over scores that have been read.
        tmem_store(own_scores + first / 2, words);
      });
      tmem_wait_stores();
      tcgen05_fence_before();
      __syncwarp();
      if (arrives) mbarrier_arrive(shared.weighed[warpgroup]);
      sums_parity = turn.parity();
    }
    add_sums();
    const float all = total.x + total.y;
    if (warpgroup == 0)
      store_half<FORMAT, 0>(shared, sum, top, all, own, item, items, y, lse, out_bits);
    else
      store_half<FORMAT, 1>(shared, sum, top, all, own, item, items, y, lse, out_bits);
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

static_assert(sizeof(Shared<64, 8>) == 182544 && sizeof(Shared<128, 4>) == 231600);

KERNEL_SHARED(attention_tcgen05_bf16_64, 384, 182544, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
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

KERNEL_SHARED(attention_tcgen05_f16_64, 384, 182544, TENSOR_MAP qkv, OPTIONAL const uint32_t* documents, void* y,
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
