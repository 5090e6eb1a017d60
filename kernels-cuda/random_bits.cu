// random_bits: bits[4 i + j] = word j of Philox4x32-10 at counter (step, stream, i, 0); key holds seed low, seed high,
// step, stream. One counter a thread.
//
// Bytes: 16 written per counter; 10 rounds of two wide products and six additions or exclusive ors, about 100 integer
// operations. At half rate for products a multiprocessor makes about 10 bytes a cycle: arithmetic is the limit.
#include "lib/pack.h"
#include "lib/philox.h"

KERNEL(random_bits, 256, const uint32_t* key, uint32_t* bits, uint32_t count) {
  const uint64_t i = thread_index();
  if (4 * i >= count) return;
  const uint4 words =
      philox(make_uint4(key[2], key[3], static_cast<uint32_t>(i), 0), make_uint2(key[0], key[1]));
  if (4 * i + 4 <= count) {
    reinterpret_cast<uint4*>(bits)[i] = words;
    return;
  }
  bits[4 * i] = words.x;
  if (4 * i + 1 < count) bits[4 * i + 1] = words.y;
  if (4 * i + 2 < count) bits[4 * i + 2] = words.z;
}
