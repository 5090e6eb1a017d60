// Four elements of a cache stored as f32: their bits, untouched.
const WORDS: u32 = 4u;

fn cache_words(bits: vec4u) -> vec4u { return bits; }
