// What threads do with scores in tensor memory (lib/tmem.h) for the gradient of attention: a thread has a row of the
// item's own in its lane, and half of the columns, which are walked rows (lib/attention_walk.h).
#pragma once
#include "attention_walk_tcgen05.h"
#include "tcgen05.h"

constexpr uint32_t WARPGROUP = 128;
// Columns of tensor memory: S, dP and the sums.
constexpr uint32_t DP = WALKED_ROWS, SUMS = 2 * WALKED_ROWS;
// Columns of a warpgroup, and of those that a thread has in registers at a time.
constexpr uint32_t OWN_COLUMNS = WALKED_ROWS / 2, LOADED = 32, WORDS = LOADED / 2;

// A thread's own row: which walked rows may see it, or it them, by their place, and what belongs to a query.
struct OwnRow {
  uint32_t row, document, begin, past;
  float log_sum, delta;  // of queries; in base 2

  template <Owner OWNER, class Storage>
  DEVICE OwnRow(const Work<OWNER, Storage>& work, const Task<OWNER, Storage>& task)
      : row(task.rows.first + threadIdx.x % WARPGROUP), begin(0), past(0), log_sum(0.0f), delta(0.0f) {
    const Dense<Storage>& call = task.call;
    const uint32_t window = call.window, start = task.rows.start, end = task.rows.end, own = task.rows.clamp(row);
    document = call.document(own);
    if constexpr (OWNER == Owner::queries) {
      const uint64_t at = static_cast<uint64_t>(own) * call.heads + task.rows.head;
      log_sum = LOG2_E * work.lse[at];
      delta = work.delta[at];
      begin = window > 0 && own - start >= window ? own + 1 - window : start;
      past = call.causal ? own + 1 : end;
    } else {
      begin = call.causal ? own : start;
      past = window > 0 && window < end - own ? own + window : end;
    }
    if (row > task.rows.last) past = begin;
  }

  // Whether the walked row may be seen; `others` where rows are of several documents.
  template <class Storage>
  DEVICE bool sees(const Dense<Storage>& call, uint32_t walked, bool others) const {
    if (walked < begin || walked >= past) return false;
    return !others || (document != PADDING && call.document(walked) == document);
  }
};

// Stores 32 of a lane's sums, times `scale`, to `out` from element `at` on.
template <WgmmaFormat FORMAT>
DEVICE void store_columns(void* out, uint32_t out_bits, uint64_t at, const float (&sum)[LOADED], float scale) {
  float v[LOADED];
#pragma unroll
  for (uint32_t i = 0; i < LOADED; i++) v[i] = scale * sum[i];
  if (out_bits == 32) {
#pragma unroll
    for (uint32_t i = 0; i < LOADED; i += 4)
      static_cast<float4*>(out)[(at + i) / 4] = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < LOADED; i += 8)
      static_cast<uint4*>(out)[(at + i) / 8] =
        make_uint4(pack_pair<FORMAT>(v[i], v[i + 1]), pack_pair<FORMAT>(v[i + 2], v[i + 3]),
                   pack_pair<FORMAT>(v[i + 4], v[i + 5]), pack_pair<FORMAT>(v[i + 6], v[i + 7]));
  }
}

// Stores 32 numbers in 16 bits to tensor memory.
template <WgmmaFormat FORMAT>
DEVICE void store_weights(uint32_t to, const float (&weight)[LOADED]) {
  uint32_t words[WORDS];
#pragma unroll
  for (uint32_t i = 0; i < WORDS; i++) words[i] = pack_pair<FORMAT>(weight[2 * i], weight[2 * i + 1]);
  tmem_store(to, words);
}

// What a thread makes of its half of a lane: the warpgroup's columns of S, and the like of dP behind them.
template <WgmmaFormat FORMAT, Owner OWNER, class Storage>
struct Weighing {
  static constexpr bool QUERIES = OWNER == Owner::queries;
  using Weights = float[OWN_COLUMNS / LOADED][LOADED];
  const ScoreScale scale;
  const uint32_t warpgroup, own;  // `own`: the address of its columns, for the warp's first lane

  DEVICE Weighing(uint32_t memory, const ScoreScale& by)
      : scale(by),
        warpgroup(threadIdx.x / WARPGROUP),
        own(tmem_lane(memory + warpgroup * OWN_COLUMNS, threadIdx.x % WARPGROUP / 32 * 32)) {}

  // p of the scores: stored, and in `weight` times what ds has of a cap. PLAIN where every query of the tile sees every
  // key and scores have no cap.
  template <bool PLAIN>
  DEVICE void weigh(Weights& weight, const Task<OWNER, Storage>& task, const Step& step, const Numbers& numbers,
                    const OwnRow& row) const {
    const bool others = !PLAIN && task.call.documents != nullptr;
#pragma unroll
    for (uint32_t c = 0; c < OWN_COLUMNS / LOADED; c++) {
      const uint32_t first = warpgroup * OWN_COLUMNS + c * LOADED;
      float score[LOADED], p[LOADED];
      tmem_load(score, own + c * LOADED);
      tmem_wait(score);
      if (!PLAIN) scale.cap(score);
#pragma unroll
      for (uint32_t i = 0; i < LOADED; i++) {
        p[i] = fast_exp2(fmaf(score[i], scale.scale, -(QUERIES ? row.log_sum : numbers.log_sum[first + i])));
        if (!PLAIN && !row.sees(task.call, step.row + first + i, others)) p[i] = 0.0f;
        weight[c][i] = PLAIN || scale.slope == 0.0f ? p[i] : p[i] * (1.0f - score[i] * score[i]);
      }
      if (!QUERIES) store_weights<FORMAT>(own + c * WORDS, p);
    }
  }

  // ds, stored. Of what may not be seen, dp need be no number.
  template <bool PLAIN>
  DEVICE void grade(const Weights& weight, const Numbers& numbers, const OwnRow& row) const {
#pragma unroll
    for (uint32_t c = 0; c < OWN_COLUMNS / LOADED; c++) {
      const uint32_t first = warpgroup * OWN_COLUMNS + c * LOADED;
      float dp[LOADED];
      tmem_load(dp, own + DP + c * LOADED);
      tmem_wait(dp);
#pragma unroll
      for (uint32_t i = 0; i < LOADED; i++) {
        const float ds = weight[c][i] * (dp[i] - (QUERIES ? row.delta : numbers.delta[first + i]));
        dp[i] = PLAIN || weight[c][i] > 0.0f ? ds : 0.0f;
      }
      store_weights<FORMAT>(own + DP + c * WORDS, dp);
    }
  }

  // What a warp has stored is told to the warp that multiplies.
  DEVICE void tell(Mbarrier& barrier) const {
    tmem_wait_stores();
    tcgen05_fence_before();
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(barrier);
  }

  // The warpgroup's half of an item's sums: dv and dk, or half of the dims of dq. Zeros without `any`.
  template <uint32_t DIM>
  DEVICE void store(const Task<OWNER, Storage>& task, const OwnRow& row, bool any, void* dqkv, uint32_t out_bits,
                    float attention_scale) const {
    constexpr uint32_t HALF = QUERIES ? DIM / 2 : DIM;
    const Dense<Storage>& call = task.call;
    const uint32_t head = task.rows.head;
    const uint32_t column = QUERIES ? call.query(head).first + warpgroup * HALF
                                    : (warpgroup == 0 ? call.value(head) : call.key(head)).first;
    const uint32_t sums = own - warpgroup * OWN_COLUMNS + SUMS + warpgroup * HALF;
    const uint64_t at = static_cast<uint64_t>(row.row) * call.width() + column;
#pragma unroll
    for (uint32_t d = 0; d < HALF; d += LOADED) {
      float sum[LOADED] = {};
      if (any) {
        tmem_load(sum, sums + d);
        tmem_wait(sum);
      }
      if (row.row <= task.rows.last)
        store_columns<FORMAT>(dqkv, out_bits, at + d, sum, QUERIES || warpgroup == 1 ? attention_scale : 1.0f);
    }
  }
};
