// scale_of(word, place): a scale of a block, here f16, two to a word.
const SCALES_IN_WORD: u32 = 2u;

fn scale_of(word: u32, place: u32) -> f32 {
  return unpack2x16float(word >> (place * 16u)).x;
}
