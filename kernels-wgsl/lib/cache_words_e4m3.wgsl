// Four elements of a cache stored as e4m3: one word of four rounded ones, by lib/store_e4m3.
const WORDS: u32 = 1u;

fn cache_words(bits: vec4u) -> vec4u { return vec4u(e4m3_word(bits), 0u, 0u, 0u); }
