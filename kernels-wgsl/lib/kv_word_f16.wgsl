// One word of a cache stored as f16: two rounded elements.
const PER_WORD: u32 = 2u;

fn kv_word(at: u32) -> u32 { return f16_bits(qkv[at]) | (f16_bits(qkv[at + 1u]) << 16u); }
