// One word of a cache stored as e4m3: four rounded elements, by lib/store_e4m3.
const PER_WORD: u32 = 4u;

fn kv_word(at: u32) -> u32 {
  return e4m3_word(vec4u(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]));
}
