// attention_backward with operands in bf16 or f16 and heads of 64 or 128 dims, on Hopper. Two launches behind that of
// attention_backward_delta.cu: dk and dv by items that own 128 keys of a key head and walk the queries of all heads
// that share it; dq by items that own 128 queries and walk keys. Every sum belongs to one warpgroup, which adds in the
// order of heads and rows: the bytes are the same in every run. docs/decisions.md says why these are two walks and
// seven products, not one of five.
//
// A warpgroup has 64 of the own rows. It multiplies them (Q and dY, or K and V) with a walked tile: scores and dp, 64
// rows by the tile, stay in its registers, p and ds become 16 bits there and are the left operand of products with the
// same tile, read along its dims. So nothing goes to shared memory but by the copy engine. Tensor cores work for one
// warpgroup while the other one takes exponentials. lib/attention_walk.h has the grid, lib/attention_walk_wgmma.h what
// is brought.
//
// D = 128, 128 keys by 64 queries: 4 products, 2,048 cycles of tensor cores at 2,048 multiply-adds a cycle. Meanwhile
// shared memory gives 192 KB, 96 bytes of its 128 a cycle (all 128 for scores and dp, whose operands both lie there),
// L2 32 KB, 16 a cycle of about 64, and 8,192 exponentials take 512 cycles of 16 a cycle. 128 queries by 128 keys: 3
// products, 3,072 cycles, 85 and 21 bytes a cycle, 1,024 cycles of exponentials. D = 64, tiles of 128: 2,048 and 1,536
// cycles, 80 and 85 bytes a cycle, 1,024 of exponentials, for dq two thirds of the time. So tensor cores limit. 4,096
// causal rows of 32 heads of 128 dims are 481 GFLOP and 3% for what tiles have beyond the diagonal: 0.50 ms at 989
// TFLOP/s, 0.67 at 75%, which is 515 TFLOP/s of the five products that others count. Memory once is 0.2 GB, 42 us at
// 4.8 TB/s; delta reads 67 MB, 14 us.
#include <type_traits>

#include "lib/attention_walk_wgmma.h"
#include "lib/barrier.h"
#include "lib/warpgroup.h"

constexpr uint32_t WARPGROUP = 128, WARPGROUP_ROWS = 64;
constexpr uint32_t BEGIN = 1;  // a barrier of the consumers

// A thread's two rows of the block's, eight apart.
struct OwnRows {
  uint32_t row;
  uint32_t document[2];
  float log_sum[2], delta[2];  // of queries; in base 2

  template <Owner OWNER, class Storage>
  DEVICE OwnRows(const Work<OWNER, Storage>& work, const Task<OWNER, Storage>& task, uint32_t first) : row(first) {
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
      const uint32_t r = task.rows.clamp(row + 8 * half);
      document[half] = task.call.document(r);
      if constexpr (OWNER == Owner::queries) {
        const uint64_t at = static_cast<uint64_t>(r) * task.call.heads + task.rows.head;
        log_sum[half] = LOG2_E * work.lse[at];
        delta[half] = work.delta[at];
      }
    }
  }
};

// From the sums of a tile, scores capped already: p, and ds without its scale, in 16 bits. PLAIN where every query of
// the tile sees every key and scores have no cap.
template <bool PLAIN, WgmmaFormat FORMAT, uint32_t WALKED, Owner OWNER, class Storage>
DEVICE void weigh(uint32_t (&p16)[WALKED / 16][4], uint32_t (&ds16)[WALKED / 16][4], const float (&scores)[WALKED / 2],
                  const float (&dp)[WALKED / 2], const Task<OWNER, Storage>& task, const ScoreScale& scale,
                  const OwnRows& own, const Numbers<WALKED>& numbers, uint32_t row) {
#pragma unroll
  for (uint32_t i = 0; i < WALKED / 2; i += 2) {
    const uint32_t half = i / 2 % 2, column = i / 4 * 8 + threadIdx.x % 4 * 2;
    float2 log_sum, delta;
    if constexpr (OWNER == Owner::queries) {
      log_sum = make_float2(own.log_sum[half], own.log_sum[half]);
      delta = make_float2(own.delta[half], own.delta[half]);
    } else {
      log_sum = *reinterpret_cast<const float2*>(&numbers.log_sum[column]);
      delta = *reinterpret_cast<const float2*>(&numbers.delta[column]);
    }
    float p[2] = {fast_exp2(fmaf(scores[i], scale.scale, -log_sum.x)),
                  fast_exp2(fmaf(scores[i + 1], scale.scale, -log_sum.y))};
    float ds[2] = {dp[i] - delta.x, dp[i + 1] - delta.y};
    if constexpr (!PLAIN) {
#pragma unroll
      for (uint32_t e = 0; e < 2; e++) {
        const uint32_t walked = row + column + e;
        if (scale.slope != 0.0f) ds[e] *= 1.0f - scores[i + e] * scores[i + e];
        // Of what may not be seen neither need be a number.
        if (walked >= task.end || own.row + 8 * half > task.rows.last ||
            !task.visible(own.row + 8 * half, walked, own.document[half], numbers.document[column + e]))
          p[e] = ds[e] = 0.0f;
      }
    }
    p16[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[0], p[1]);
    ds16[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[0] * ds[0], p[1] * ds[1]);
  }
}

// Stores a thread's weights of two own rows, eight apart, as rows of `kept` from `row` on, in columns from `column` on.
template <uint32_t WALKED>
DEVICE void keep(void* kept, uint32_t pitch, uint32_t row, uint32_t column, const uint32_t (&weights)[WALKED / 16][4]) {
#pragma unroll
  for (uint32_t half = 0; half < 2; half++) {
    const uint64_t at = static_cast<uint64_t>(row + 8 * half) * pitch + column;
#pragma unroll
    for (uint32_t k = 0; k < WALKED / 16; k += 2)
      static_cast<uint4*>(kept)[(at + 16 * k) / 8 + threadIdx.x % 4] =
        gather_chunk(weights[k][half], weights[k][2 + half], weights[k + 1][half], weights[k + 1][2 + half]);
  }
}

template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void multiply(Ring<DIM, WALKED, STAGES>& ring, const Work<OWNER, Storage>& work, float scale, float softcap,
                     void* dqkv, uint32_t out_bits, void* kept) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  constexpr WgmmaFormat FORMAT = std::is_same_v<Storage, BF16> ? WgmmaFormat::bf16 : WgmmaFormat::f16;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, above = (warp / 4 - 1) * WARPGROUP_ROWS;
  const ScoreScale score_scale(scale, softcap);
  const Dense<Storage>& call = work.call;
  Place<STAGES> next;
  uint32_t own_parity = 0;
  bool begun = false;
  work.for_items([&](const Task<OWNER, Storage>& task) {
    const OwnRows own(work, task, task.rows.first + above + warp % 4 * 16 + lane / 4);
    float sum[DIM / 2] = {}, sum_v[DIM / 2] = {};  // of dq, or of dk and dv
    mbarrier_wait(ring.own_full, own_parity);
    own_parity ^= 1;
    for (;; next.advance()) {
      const uint32_t stage = next.stage;
      mbarrier_wait(ring.full[stage], next.parity);
      const Step step = ring.step[stage];
      if (step.row == Step::END) break;
      // The second warpgroup begins when the first one has its first sums: then tensor cores need not wait for both.
      if (!begun && above > 0) barrier_sync(BEGIN, CONSUMERS);
      const Boxes<DIM, WALKED>(&walked)[2] = ring.walked[stage];
      float scores[WALKED / 2], dp[WALKED / 2];
      wgmma_fence();
      multiply_rows<FORMAT, DIM>(scores, ring.own[0], above, walked[0]);
      multiply_rows<FORMAT, DIM>(dp, ring.own[1], above, walked[1]);
      wgmma_commit();
      wgmma_wait<0>();
      if (!begun && above == 0) barrier_sync(BEGIN, CONSUMERS);
      begun = true;
      uint32_t p[WALKED / 16][4], ds[WALKED / 16][4];
      score_scale.cap(scores);
      if (score_scale.slope == 0.0f && !step.masked)
        weigh<true, FORMAT>(p, ds, scores, dp, task, score_scale, own, ring.numbers[stage], step.row);
      else
        weigh<false, FORMAT>(p, ds, scores, dp, task, score_scale, own, ring.numbers[stage], step.row);
      wgmma_fence();
      add_weighted_rows<FORMAT, DIM>(sum, ds, walked[0]);
      if constexpr (!QUERIES) add_weighted_rows<FORMAT, DIM>(sum_v, p, walked[1]);
      wgmma_commit();
      if constexpr (!QUERIES) {
        const uint32_t start = task.rows.start, row = task.kept_row(step.head) + own.row - start;
        if (kept != nullptr) keep<WALKED>(kept, kept_pitch(call.sequence), row, step.row - start, ds);
      }
      wgmma_wait<0>();
      if (lane == 0) mbarrier_arrive(ring.empty[stage]);
    }
    __syncwarp();  // all lanes have read the step
    if (lane == 0) {
      mbarrier_arrive(ring.empty[next.stage]);
      mbarrier_arrive(ring.own_empty);
    }
    next.advance();
    const uint32_t head = task.rows.head, first = (QUERIES ? call.query(head) : call.key(head)).first;
    store_sums<FORMAT, DIM>(dqkv, out_bits, call.width(), first, sum, scale, own.row, task.rows.last);
    if constexpr (!QUERIES)
      store_sums<FORMAT, DIM>(dqkv, out_bits, call.width(), call.value(head).first, sum_v, 1.0f, own.row,
                              task.rows.last);
  });
}

template <Owner OWNER, class Storage, uint32_t DIM, uint32_t WALKED, uint32_t STAGES>
DEVICE void backward(const TensorMap& qkv, const TensorMap& dy, const Work<OWNER, Storage>& work, float scale,
                     float softcap, void* dqkv, uint32_t out_bits, void* kept = nullptr) {
  using Stages = Ring<DIM, WALKED, STAGES>;
  DYNAMIC_SHARED(ring, Stages);
  if (threadIdx.x == 0) ring.init();
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<56>();
    if (threadIdx.x / 32 == 0) bring_tiles(ring, qkv, dy, work);
    if (threadIdx.x / 32 == 1) bring_numbers(ring, work);
    if (threadIdx.x == 64) bring_own<DIM>(ring, qkv, dy, work);
    if (threadIdx.x / 32 == 3) clear_tiles(ring, work);
  } else {
    registers_take<224>();
    multiply(ring, work, scale, softcap, dqkv, out_bits, kept);
  }
}

static_assert(sizeof(Ring<64, 128, 4>) == 170144 &&
              sizeof(Ring<128, 64, 4>) == 199840 &&
              sizeof(Ring<128, 128, 2>) == 199768);

KERNEL_SHARED(attention_backward_wgmma_key_64_bf16, 384, 170144, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, OPTIONAL void* kept, uint32_t items,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
              float scale, float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, BF16, 64, 128, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits, kept);
}

KERNEL_SHARED(attention_backward_wgmma_query_64_bf16, 384, 170144, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, BF16, 64, 128, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_key_128_bf16, 384, 199840, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, OPTIONAL void* kept, uint32_t items,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
              float scale, float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, BF16, 128, 64, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits, kept);
}

KERNEL_SHARED(attention_backward_wgmma_query_128_bf16, 384, 199768, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<BF16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, BF16, 128, 128, 2>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_key_64_f16, 384, 170144, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, OPTIONAL void* kept, uint32_t items,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
              float scale, float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, F16, 64, 128, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits, kept);
}

KERNEL_SHARED(attention_backward_wgmma_query_64_f16, 384, 170144, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, F16, 64, 128, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_key_128_f16, 384, 199840, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, OPTIONAL void* kept, uint32_t items,
              uint32_t heads, uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window,
              float scale, float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::keys, F16, 128, 64, 4>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits, kept);
}

KERNEL_SHARED(attention_backward_wgmma_query_128_f16, 384, 199768, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t items, uint32_t heads,
              uint32_t kv_heads, uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale,
              float softcap, uint32_t out_bits) {
  const Dense<F16> call = {nullptr, documents, heads, kv_heads, dim, sequence, causal, window};
  backward<Owner::queries, F16, 128, 128, 2>(qkv, dy, {call, lse, delta, items}, scale, softcap, dqkv, out_bits);
}
