// Four elements of a cache stored as f16: two words of two rounded ones.
const WORDS: u32 = 2u;

fn cache_words(bits: vec4u) -> vec4u {
  let low = f16_bits(bits.x) | (f16_bits(bits.y) << 16u);
  let high = f16_bits(bits.z) | (f16_bits(bits.w) << 16u);
  return vec4u(low, high, 0u, 0u);
}
