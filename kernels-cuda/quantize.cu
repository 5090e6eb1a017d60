// quantize: blocks of 32 f32 to a planar block format, the very bytes that src/tensor/format.ts gives.
//
// All is exact: the division by a constant rounds correctly, and the rounded quotient of an element is checked against
// the exact products (q +- 1/2) * scale (at most 9 + 11 significant bits, so contraction changes nothing).
//
// Eight lanes a block, four elements each. Bytes: 4 per element read, 1.06 or 0.56 written; about 25 operations and two
// divisions. Memory bandwidth is the limit.
#include "lib/pack.h"
#include "lib/storage.h"

constexpr uint32_t MAGNITUDE = 0x7fffffffu;

// Bits of the first element of largest magnitude of the eight lanes' elements; +0 if there is none.
DEVICE uint32_t largest_of(const Pack<4, uint32_t>& x) {
  uint32_t best = 0;
  for (uint32_t j = 0; j < 4; j++)
    if ((x.v[j] & MAGNITUDE) > (best & MAGNITUDE)) best = x.v[j];
  for (uint32_t step = 1; step < 8; step *= 2) {
    const uint32_t other = __shfl_xor_sync(FULL_WARP, best, step);
    const uint32_t a = best & MAGNITUDE, b = other & MAGNITUDE;
    // Each lane now stands for `step` neighbours; of two such groups the lower one comes first.
    if (b > a || (b == a && (threadIdx.x & step))) best = other;
  }
  return best;
}

// The integer nearest to x / scale, ties to even; `scale` is finite and not 0. Past `limit` it is limit + 1 or more in
// magnitude.
DEVICE int32_t quotient(float x, float scale, float limit) {
  const float size = fabsf(scale), value = fminf(fabsf(x), (limit + 1.0f) * size);
  float q = rintf(value / size);
  const float above = (q + 0.5f) * size, below = (q - 0.5f) * size;
  const bool odd = static_cast<uint32_t>(q) & 1u;
  if (value > above || (value == above && odd)) {
    q += 1.0f;
  } else if (value < below || (value == below && odd)) {
    q -= 1.0f;
  }
  return static_cast<int32_t>((x < 0.0f) != (scale < 0.0f) ? -q : q);
}

// scale = |largest| / 127, quants in -127 to 127 as bytes.
struct ToQ8_0 {
  using Four = uint32_t;
  static constexpr uint32_t BITS = 8;
  static constexpr float LIMIT = 127.0f;
  DEVICE static float scale(float largest) { return fabsf(largest) / 127.0f; }
  DEVICE static uint32_t encode(int32_t q) { return static_cast<uint32_t>(min(max(q, -127), 127)) & 0xffu; }
};

// scale = largest / -8, quants in -8 to 7 stored plus 8 as nibbles.
struct ToQ4_0 {
  using Four = uint16_t;
  static constexpr uint32_t BITS = 4;
  static constexpr float LIMIT = 8.0f;
  DEVICE static float scale(float largest) { return largest * -0.125f; }
  DEVICE static uint32_t encode(int32_t q) { return static_cast<uint32_t>(min(max(q + 8, 0), 15)); }
};

template <typename To>
DEVICE void quantize(const uint32_t* x, uint8_t* y, uint64_t blocks) {
  const uint64_t i = thread_index(), block = i / 8;
  const bool live = block < blocks;
  Pack<4, uint32_t> bits = {};
  if (live) bits = load_pack<4>(x, i);
  const uint32_t scale_bits = f32_to_f16(To::scale(float_of(largest_of(bits))));
  if (!live) return;

  const bool usable = (scale_bits & 0x7fffu) != 0 && (scale_bits & 0x7fffu) < 0x7c00u;
  const float scale = f16_to_f32(scale_bits);
  uint32_t packed = 0;
  for (uint32_t j = 0; j < 4; j++)
    packed |= To::encode(usable ? quotient(float_of(bits.v[j]), scale, To::LIMIT) : 0) << (j * To::BITS);
  reinterpret_cast<typename To::Four*>(y)[i] = static_cast<typename To::Four>(packed);
  if (i % 8 != 0) return;
  uint16_t* scales = reinterpret_cast<uint16_t*>(y + blocks * 4 * To::BITS);
  scales[block] = static_cast<uint16_t>(scale_bits);
  // An odd number of blocks ends in half a word, which holds zero.
  if (block + 1 == blocks && blocks % 2 == 1) scales[blocks] = 0;
}

KERNEL(quantize_q8_0, 256, const uint32_t* x, uint8_t* y, uint64_t blocks) { quantize<ToQ8_0>(x, y, blocks); }

KERNEL(quantize_q4_0, 256, const uint32_t* x, uint8_t* y, uint64_t blocks) { quantize<ToQ4_0>(x, y, blocks); }
