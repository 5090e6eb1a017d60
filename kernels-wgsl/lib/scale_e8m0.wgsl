// scale_of(word, place): a scale of a block, here a power of two by its exponent, four to a word; 0xff is NaN.
const SCALES_IN_WORD: u32 = 4u;

fn scale_of(word: u32, place: u32) -> f32 {
  let exponent = (word >> (place * 8u)) & 0xffu;
  return bitcast<f32>(select(select(exponent << 23u, 0x400000u, exponent == 0u), 0x7fc00000u, exponent == 0xffu));
}
