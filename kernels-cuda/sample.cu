// sample: one token per row of logits, a block per row; see src/ops/sample.ts for the definition.
//
// No sort: with e = exp((logit - max) / temperature) in scratch, "the k most probable" and "the fewest that reach mass
// p" are each a threshold on e, found on its bits (e lies in [0, 1], where the bits of a float order like its value).
// A pass measures three thresholds, so it leaves a quarter of the candidates' range; a search ends when one distinct
// candidate is left.
//
// Bytes: 4 V from memory and 4 V through L2 per pass: 4 passes + about 7 for each of top_k and top_p that is on + 1 for
// the draw. V = 128k is 512 KB: at 64 bytes a cycle into one multiprocessor 8,000 cycles a pass, with 3 instructions
// per element and threshold about as long in arithmetic; 18 passes are 0.1 ms, whatever the number of rows up to that
// of multiprocessors.
#include "lib/pack.h"
#include "lib/philox.h"
#include "lib/reduce.h"
#include "lib/storage.h"

constexpr uint32_t THREADS = 512;
constexpr uint32_t THRESHOLDS = 3;

// The tokens with e >= the float of these bits: how many (exact, as V is below 2^24), and their sum of e.
struct Kept {
  uint32_t bits;
  float count, mass;
};

struct Measures {
  float count[THRESHOLDS], mass[THRESHOLDS];
};

DEVICE Measures warp_sums(Measures x) {
  for (uint32_t k = 0; k < THRESHOLDS; k++) {
    x.count[k] = warp_sum(x.count[k]);
    x.mass[k] = warp_sum(x.mass[k]);
  }
  return x;
}

// use(i, load(i)) for this thread's packs, i % THREADS = threadIdx.x: four loads at a time are under way before the
// first is used, as no load moves over a store by itself.
template <typename Load, typename Use>
DEVICE void for_packs(uint32_t packs, Load load, Use use) {
  for (uint32_t first = threadIdx.x; first < packs; first += 4 * THREADS) {
    decltype(load(0)) loaded[4];
#pragma unroll
    for (uint32_t b = 0; b < 4; b++)
      loaded[b] = first + b * THREADS < packs ? load(first + b * THREADS) : decltype(load(0)){};
#pragma unroll
    for (uint32_t b = 0; b < 4; b++)
      if (first + b * THREADS < packs) use(first + b * THREADS, loaded[b]);
  }
}

DEVICE Measures measure(const float* scores, uint32_t packs, const float (&bounds)[THRESHOLDS]) {
  Measures own = {};
  const auto load = [=](uint32_t i) { return load_pack<4>(scores, i); };
  for_packs(packs, load, [&](uint32_t, const Pack<4>& e) {
    for (uint32_t j = 0; j < 4; j++)
      for (uint32_t k = 0; k < THRESHOLDS; k++)
        if (e.v[j] >= bounds[k]) {
          own.count[k] += 1.0f;
          own.mass[k] += e.v[j];
        }
  });
  return warp_sums(exchange_warps<THREADS>(warp_sums(own), Measures{}));
}

// The highest threshold that keeps `least_count` tokens with a sum of `least_mass`; `low` keeps enough.
DEVICE Kept search(const float* scores, uint32_t packs, Kept low, float least_count, float least_mass) {
  Kept high = {bits_of(1.0f) + 1, 0.0f, 0.0f};
  while (low.count - high.count > 1.0f && high.bits - low.bits > 1) {
    const uint32_t from = low.bits, range = high.bits - low.bits;
    uint32_t bits[THRESHOLDS];
    float bounds[THRESHOLDS];
    for (uint32_t k = 0; k < THRESHOLDS; k++) {
      bits[k] = from + static_cast<uint32_t>(static_cast<uint64_t>(range) * (k + 1) / (THRESHOLDS + 1));
      bounds[k] = float_of(bits[k]);
    }
    const Measures found = measure(scores, packs, bounds);
    bool enough = true;
    for (uint32_t k = 0; k < THRESHOLDS; k++) {
      if (!enough) continue;
      const Kept kept = {bits[k], found.count[k], found.mass[k]};
      enough = kept.count >= least_count && kept.mass >= least_mass;
      (enough ? low : high) = kept;
    }
  }
  return low;
}

// Where a thread's value lies in the running sum over all threads.
struct Place {
  float before, total;
};

DEVICE Place running_sum(float x) {
  SHARED(of_warp, float[THREADS / 32]);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float inclusive = x;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const float left = __shfl_up_sync(FULL_WARP, inclusive, step);
    if (lane >= step) inclusive += left;
  }
  const float left = __shfl_up_sync(FULL_WARP, inclusive, 1);
  __syncthreads();  // until here the sums of the call before may still be read
  if (lane == 31) of_warp[warp] = inclusive;
  __syncthreads();
  Place place = {0.0f, 0.0f};
  for (uint32_t w = 0; w < THREADS / 32; w++) {
    if (w == warp) place.before = place.total;
    place.total += of_warp[w];
  }
  if (lane > 0) place.before += left;
  return place;
}

DEVICE float kept_mass(const Pack<4>& e, float bound) {
  float sum = 0.0f;
  for (uint32_t j = 0; j < 4; j++) sum += e.v[j] >= bound ? e.v[j] : 0.0f;
  return sum;
}

// The token where the sum of all e >= bound in index order first exceeds `draw` times their total. The row is cut into
// one chunk per thread; the chunk that holds the place is cut again, until it is one pack.
DEVICE uint32_t pick(const float* scores, uint32_t packs, float bound, float draw) {
  SHARED(before_picked, float);
  uint32_t first = 0, end = packs, span = packs;
  float before = 0.0f, place = -1.0f;
  while (true) {
    const uint32_t chunk = (span + THREADS - 1) / THREADS, start = first + threadIdx.x * chunk;
    float mass = 0.0f;
    for (uint32_t i = start; i < min(start + chunk, end); i++) mass += kept_mass(load_pack<4>(scores, i), bound);
    const Place own = running_sum(mass);
    if (place < 0.0f) place = draw * own.total;
    // Roundings may leave the place at or after the end of the last chunk: then it is the last one with mass.
    const bool may_hold = mass > 0.0f && before + own.before <= place;
    const float picked = block_max<THREADS>(may_hold ? static_cast<float>(threadIdx.x) : 0.0f);
    if (static_cast<float>(threadIdx.x) == picked) before_picked = before + own.before;
    __syncthreads();
    before = before_picked;
    first += static_cast<uint32_t>(picked) * chunk;
    end = min(first + chunk, end);
    span = chunk;
    if (chunk == 1) break;
  }
  const Pack<4> e = load_pack<4>(scores, first);
  uint32_t chosen = 0;
  for (uint32_t j = 0; j < 4; j++) {
    if (e.v[j] >= bound && e.v[j] > 0.0f && before <= place) chosen = j;
    before += e.v[j] >= bound ? e.v[j] : 0.0f;
  }
  return 4 * first + chosen;
}

// `width` is V, a row of scores is padded to `packs` packs of four.
KERNEL(sample, 512, const float* logits, const float* options, const uint32_t* key, const uint32_t* history,
       const uint32_t* length, uint32_t* token, float* scores, uint32_t width, uint32_t packs, uint32_t slots) {
  const uint32_t row = blockIdx.x, lane = threadIdx.x;
  logits += static_cast<uint64_t>(row) * width;
  history += static_cast<uint64_t>(row) * slots;
  scores += static_cast<uint64_t>(row) * packs * 4;
  const float* option = options + row * 8;
  const float temperature = option[0], top_k = option[1], top_p = option[2], min_p = option[3], penalty = option[4];

  if (width % 4 == 0) {
    for_packs(packs, [=](uint32_t i) { return load_pack<4>(logits, i); },
              [=](uint32_t i, const Pack<4>& p) { store_pack(scores, i, p); });
  } else {
    for_packs(4 * packs, [=](uint32_t i) { return i < width ? logits[i] : -INFINITY; },
              [=](uint32_t i, float x) { scores[i] = x; });
  }
  __syncthreads();
  if (penalty > 0.0f && penalty != 1.0f) {
    // From logits, not from scores: a token that occurs twice is penalised once, by two equal writes.
    const uint32_t valid = min(length[row], slots);
    for (uint32_t h = lane; h < valid; h += THREADS) {
      const uint32_t seen = history[h];
      if (seen < width) scores[seen] = logits[seen] > 0.0f ? logits[seen] / penalty : logits[seen] * penalty;
    }
    __syncthreads();
  }

  ValueAt best = {-INFINITY, 0xffffffffu};
  const auto load = [=](uint32_t i) { return load_pack<4>(scores, i); };
  for_packs(packs, load, [&](uint32_t i, const Pack<4>& score) {
    for (uint32_t j = 0; j < 4; j++) best = larger(best, {score.v[j], 4 * i + j});
  });
  best = block_argmax<THREADS>(best);
  if (temperature == 0.0f) {
    if (lane == 0) token[row] = best.index;
    return;
  }

  // Below exp(-200) nothing is left in f32.
  const float inverse = 1.0f / temperature;
  float sum = 0.0f;
  for_packs(packs, load, [&](uint32_t i, const Pack<4>& score) {
    const Pack<4> e =
        map<4>([=](float s) { return expf(fmaxf((s - best.value) * inverse, -200.0f)); }, score);
    store_pack(scores, i, e);
    for (uint32_t j = 0; j < 4; j++) sum += e.v[j];
  });
  Kept kept = {0, static_cast<float>(width), block_sum<THREADS>(sum)};
  if (top_k > 0.0f && top_k < kept.count) kept = search(scores, packs, kept, top_k, 0.0f);
  if (top_p < 1.0f) kept = search(scores, packs, kept, 1.0f, top_p * kept.mass);
  const float bound = fmaxf(float_of(kept.bits), fminf(min_p, 1.0f));

  __syncthreads();  // from here on threads read what others stored
  const uint32_t* k = key + row * 4;
  const float draw = uniform_from_bits(philox(make_uint4(k[2], k[3], 0, 0), make_uint2(k[0], k[1])).x);
  const uint32_t chosen = pick(scores, packs, bound, draw);
  if (lane == 0) token[row] = chosen;
}
