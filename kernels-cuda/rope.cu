// rope: rotates the pairs of the first `rotated` heads of each row of x, in place, by the table row of its position.
// A pair (a, b) becomes (a cos - b sin, b cos + a sin); `direction` is 1, or -1 for the inverse.
//
// Per pair: 8 bytes read, 8 written (half of that in 16 bits), 8 bytes of table from cache, 6 flops: memory bandwidth is
// the limit.
#include "lib/stored.h"

struct RopePlace {
  uint64_t row, head, i;
};

// Which group of pairs is this thread's, where `groups` make up a head.
DEVICE RopePlace rope_place(uint64_t groups, uint64_t rotated) {
  const uint64_t index = thread_index();
  return {index / (groups * rotated), index / groups % rotated, index % groups};
}

// A pair a thread: elements i * pair_step and that + partner_step of the head.
KERNEL(rope_1, 256, void* x, const uint32_t* positions, const float* table, uint32_t format, uint64_t rows,
       uint64_t width, uint32_t head_dim, uint32_t rotated, uint32_t half, uint32_t pair_step, uint32_t partner_step,
       float direction) {
  const auto [row, head, i] = rope_place(half, rotated);
  if (row >= rows) return;
  const uint64_t at = 2ull * half * positions[row] + i;
  const float cosine = table[at], sine = direction * table[at + half];
  const uint64_t a = row * width + head * head_dim + i * pair_step, b = a + partner_step;
  with_format(format, [=](auto f) {
    using Format = decltype(f);
    const float xa = Format::load(x, 0, a), xb = Format::load(x, 0, b);
    Format::store(x, a, xa * cosine - xb * sine);
    Format::store(x, b, xb * cosine + xa * sine);
  });
}

// Four pairs a thread whose first elements lie side by side, as do their partners half a rotated head further.
KERNEL(rope_half_4, 256, void* x, const uint32_t* positions, const float* table, uint32_t format, uint64_t rows,
       uint64_t width, uint32_t head_dim, uint32_t rotated, uint32_t half, float direction) {
  const auto [row, head, i] = rope_place(half / 4, rotated);
  if (row >= rows) return;
  const float* of_position = table + 2ull * half * positions[row];
  const Pack<4> cosine = load_pack<4>(of_position, i), sine = load_pack<4>(of_position + half, i);
  const uint64_t a = (row * width + head * head_dim) / 4 + i, b = a + half / 4;
  with_format(format, [=](auto f) {
    using Format = decltype(f);
    const Pack<4> xa = load_stored<4, Format>(x, a), xb = load_stored<4, Format>(x, b);
    store_stored<Format>(x, a, map<4>([=](float a, float b, float c, float s) { return a * c - b * (direction * s); },
                                      xa, xb, cosine, sine));
    store_stored<Format>(x, b, map<4>([=](float a, float b, float c, float s) { return b * c + a * (direction * s); },
                                      xa, xb, cosine, sine));
  });
}

// Two pairs a thread of elements that lie side by side.
KERNEL(rope_interleaved_4, 256, void* x, const uint32_t* positions, const float* table, uint32_t format,
       uint64_t rows, uint64_t width, uint32_t head_dim, uint32_t rotated, uint32_t half, float direction) {
  const auto [row, head, i] = rope_place(half / 2, rotated);
  if (row >= rows) return;
  const float* of_position = table + 2ull * half * positions[row];
  const float2 cosine = reinterpret_cast<const float2*>(of_position)[i];
  const float2 sine = reinterpret_cast<const float2*>(of_position + half)[i];
  const float s0 = direction * sine.x, s1 = direction * sine.y;
  const uint64_t place = (row * width + head * head_dim) / 4 + i;
  with_format(format, [=](auto f) {
    using Format = decltype(f);
    const float4 v = Format::load4(x, 0, 4 * place);
    Format::store4(x, 4 * place, make_float4(v.x * cosine.x - v.y * s0, v.y * cosine.x + v.x * s0,
                                             v.z * cosine.y - v.w * s1, v.w * cosine.y + v.z * s1));
  });
}
