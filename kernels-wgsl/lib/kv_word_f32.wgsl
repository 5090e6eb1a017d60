// One word of a cache stored as f32: the element's bits, untouched.
const PER_WORD: u32 = 1u;

fn kv_word(at: u32) -> u32 { return qkv[at]; }
