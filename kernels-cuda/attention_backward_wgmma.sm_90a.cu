// attention_backward with operands in bf16 or f16, heads of 64 or 128 dims, on Hopper. Three launches: delta = dy.y;
// dk and dv by blocks that own 128 keys of a key head and walk the queries of all heads that share it; dq by blocks
// that own 128 queries and walk keys. Each sum belongs to one warpgroup, which adds in the order of rows, so the bytes
// are the same in every run.
//
// A warpgroup owns 64 rows. It multiplies them (Q and dY, or K and V) with a walked tile to scores and dp, sums of 64
// rows by the tile in its registers; p and ds become 16 bits there and are the left operand of the products with the
// same walked tile, now read along its dims. Nothing is stored to shared memory but by the copy engine. One warp brings
// boxes into a ring of stages, another one numbers of single rows (lse, delta, documents); tensor cores work for one
// warpgroup while the other one takes exponentials, and for the products of a step while the next one's are issued.
//
// Per query and key: 8 D flops of products for dk and dv, 6 D for dq: seven products, where one walk that keeps dk and
// dv and adds dq to memory would have five. In a fixed order those additions wait from tile to tile, and ds kept in
// memory for the second walk grows with the square of the sequence (docs/decisions.md).
//
// D = 128, tile of 64 queries for two warpgroups of keys: 4 products of 128 x 64 x 128, 2,048 cycles of tensor cores at
// 2,048 multiply-adds a cycle. Meanwhile shared memory gives 192 KB of 128 bytes a cycle (75%: 128 for scores and dp
// with both operands there, 64 for dk and dv with p and ds in registers), L2 32 KB (16 bytes a cycle of about 64), and
// the 8,192 exponentials take 512 cycles of 16 a cycle. dq, tile of 128 keys: 3 products, 3,072 cycles, 320 KB, 1,024
// cycles of exponentials. So tensor cores limit: 4,096 causal rows of 32 heads of 128 dims are 241 GFLOP of 7 products,
// 0.49 ms at half of 989 TFLOP/s, which would be 344 of the five products that others count; at 80% 0.3 ms and 565.
// Memory once 0.2 GB, 42 us at 4.8 TB/s.
#include <type_traits>

#include "lib/attention_walk.h"
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
  DEVICE OwnRows(const Task<OWNER, Storage>& task, uint32_t first) : row(first) {
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
      const uint32_t r = task.rows.clamp(row + 8 * half);
      document[half] = task.call.document(r);
      if constexpr (OWNER == Owner::queries) {
        const uint64_t at = static_cast<uint64_t>(r) * task.call.heads + task.rows.head;
        log_sum[half] = LOG2_E * task.lse[at];
        delta[half] = task.delta[at];
      }
    }
  }
};

// From the sums of a tile, scores capped already: p, and ds without its scale, in 16 bits. PLAIN where every query of the
// tile sees every key and scores have no cap.
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
        if (walked >= task.end ||
            !task.visible(own.row + 8 * half, walked, own.document[half], numbers.document[column + e]))
          p[e] = 0.0f;
        if (scale.slope != 0.0f) ds[e] *= 1.0f - scores[i + e] * scores[i + e];
      }
    }
    p16[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[0], p[1]);
    ds16[i / 8][i / 2 % 4] = pack_pair<FORMAT>(p[0] * ds[0], p[1] * ds[1]);
  }
}

// Stores a thread's sums, times `scale`, in columns of `out` from `column` on; of its two rows those up to `last`.
template <WgmmaFormat FORMAT, uint32_t DIM>
DEVICE void store_sums(void* out, uint32_t out_bits, uint32_t width, uint32_t column, const float (&sum)[DIM / 2],
                       float scale, uint32_t row, uint32_t last) {
  const uint32_t t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t half = 0; half < 2; half++) {
    const bool exists = row + 8 * half <= last;
    const uint64_t at = static_cast<uint64_t>(row + 8 * half) * width + column;
#pragma unroll
    for (uint32_t i = 2 * half; i < DIM / 2; i += 16) {
      float2 v[4];
#pragma unroll
      for (uint32_t j = 0; j < 4; j++) v[j] = make_float2(scale * sum[i + 4 * j], scale * sum[i + 4 * j + 1]);
      if (out_bits == 32) {
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
          if (exists) static_cast<float2*>(out)[(at + i / 4 * 8 + 8 * j) / 2 + t] = v[j];
      } else {
        const uint4 chunk = gather_chunk(pack_pair<FORMAT>(v[0].x, v[0].y), pack_pair<FORMAT>(v[1].x, v[1].y),
                                         pack_pair<FORMAT>(v[2].x, v[2].y), pack_pair<FORMAT>(v[3].x, v[3].y));
        if (exists) static_cast<uint4*>(out)[(at + i / 4 * 8) / 8 + t] = chunk;
      }
    }
  }
}

template <uint32_t DIM, uint32_t WALKED, uint32_t STAGES, Owner OWNER, class Storage>
DEVICE void multiply(Ring<DIM, WALKED, STAGES>& ring, const Task<OWNER, Storage>& task, float scale, float softcap,
                     void* dqkv, uint32_t out_bits) {
  constexpr bool QUERIES = OWNER == Owner::queries;
  constexpr WgmmaFormat FORMAT = std::is_same_v<Storage, BF16> ? WgmmaFormat::bf16 : WgmmaFormat::f16;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, above = (warp / 4 - 1) * WARPGROUP_ROWS;
  const OwnRows own(task, task.rows.first + above + warp % 4 * 16 + lane / 4);
  const ScoreScale score_scale(scale, softcap);
  float sum[DIM / 2] = {}, sum_v[DIM / 2] = {};  // of dq, or of dk and dv
  bool begun = false;
  mbarrier_wait(ring.owned, 0);
  for (Place<STAGES> next;; next.advance()) {
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
    wgmma_wait<0>();
    if (lane == 0) mbarrier_arrive(ring.empty[stage]);
  }
  const Dense<Storage>& call = task.call;
  const uint32_t head = task.rows.head, last = task.rows.last;
  store_sums<FORMAT, DIM>(dqkv, out_bits, call.width(), (QUERIES ? call.query(head) : call.key(head)).first, sum, scale,
                          own.row, last);
  if constexpr (!QUERIES)
    store_sums<FORMAT, DIM>(dqkv, out_bits, call.width(), call.value(head).first, sum_v, 1.0f, own.row, last);
}

template <Owner OWNER, class Storage, uint32_t DIM, uint32_t WALKED, uint32_t STAGES>
DEVICE void backward(const TensorMap& qkv, const TensorMap& dy, const Dense<Storage>& call, const float* lse,
                     const float* delta, void* dqkv, float scale, float softcap, uint32_t out_bits) {
  using Stages = Ring<DIM, WALKED, STAGES>;
  DYNAMIC_SHARED(ring, Stages);
  const Task<OWNER, Storage> task(call, lse, delta);
  if (threadIdx.x == 0) ring.init();
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    registers_give_back<40>();
    if (threadIdx.x / 32 == 0) bring_boxes(ring, qkv, dy, task);
    if (threadIdx.x / 32 == 1) bring_numbers(ring, task);
  } else {
    registers_take<232>();
    multiply(ring, task, scale, softcap, dqkv, out_bits);
  }
}

// delta[t,h] = sum_d dy[t,h,d] y[t,h,d]: four neighbours a thread, DIM / 4 threads a head.
template <class Storage, uint32_t DIM>
DEVICE void backward_delta(const void* dy, const void* y, float* delta, uint32_t count) {
  const uint32_t thread = blockIdx.x * 256 + threadIdx.x, item = thread / (DIM / 4);
  float dot = 0.0f;
  if (item < count) {
    const float4 a = Storage::load4(dy, 0, 4 * static_cast<uint64_t>(thread)), b = Storage::load4(y, 0, 4 * static_cast<uint64_t>(thread));
    dot = a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
  }
#pragma unroll
  for (uint32_t step = DIM / 8; step > 0; step /= 2) dot += __shfl_xor_sync(FULL_WARP, dot, step);
  if (item < count && thread % (DIM / 4) == 0) delta[item] = dot;
}

static_assert(sizeof(Ring<64, 128, 4>) == 170088 &&
              sizeof(Ring<128, 64, 4>) == 199784 &&
              sizeof(Ring<128, 128, 2>) == 199736);

KERNEL(attention_backward_delta_64_bf16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<BF16, 64>(dy, y, delta, count);
}

KERNEL_SHARED(attention_backward_wgmma_key_64_bf16, 384, 170088, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::keys, BF16, 64, 128, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_query_64_bf16, 384, 170088, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::queries, BF16, 64, 128, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL(attention_backward_delta_128_bf16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<BF16, 128>(dy, y, delta, count);
}

KERNEL_SHARED(attention_backward_wgmma_key_128_bf16, 384, 199784, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::keys, BF16, 128, 64, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_query_128_bf16, 384, 199736, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::queries, BF16, 128, 128, 2>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL(attention_backward_delta_64_f16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<F16, 64>(dy, y, delta, count);
}

KERNEL_SHARED(attention_backward_wgmma_key_64_f16, 384, 170088, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::keys, F16, 64, 128, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_query_64_f16, 384, 170088, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::queries, F16, 64, 128, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL(attention_backward_delta_128_f16, 256, const void* dy, const void* y, float* delta, uint32_t count) {
  backward_delta<F16, 128>(dy, y, delta, count);
}

KERNEL_SHARED(attention_backward_wgmma_key_128_f16, 384, 199784, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::keys, F16, 128, 64, 4>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}

KERNEL_SHARED(attention_backward_wgmma_query_128_f16, 384, 199736, TENSOR_MAP qkv, TENSOR_MAP dy, const float* lse,
              const float* delta, OPTIONAL const uint32_t* documents, void* dqkv, uint32_t heads, uint32_t kv_heads,
              uint32_t dim, uint32_t sequence, uint32_t causal, uint32_t window, float scale, float softcap,
              uint32_t out_bits) {
  backward<Owner::queries, F16, 128, 128, 2>(qkv, dy, {nullptr, documents, heads, kv_heads, dim, sequence, causal, window},
                                    lse, delta, dqkv, scale, softcap, out_bits);
}
