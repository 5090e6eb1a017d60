// One word of a cache stored as e4m3: four rounded elements, by lib/store_e4m3.
const PER_WORD: u32 = 4u;

fn kv_word(at: u32) -> u32 {
  return e4m3_bits(qkv[at]) | (e4m3_bits(qkv[at + 1u]) << 8u) | (e4m3_bits(qkv[at + 2u]) << 16u) |
    (e4m3_bits(qkv[at + 3u]) << 24u);
}
