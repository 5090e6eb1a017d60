// scale_of(word, place): a scale of a block, here e4m3, four to a word, by lib/unpack_e4m3, times the scale of the whole
// tensor in its last word.
const SCALES_IN_WORD: u32 = 4u;
const TENSOR_SCALE_WORD: u32 = 0u;

fn scale_of(word: u32, place: u32) -> f32 {
  return e4m3_numbers(word >> (place * 8u)).x * bitcast<f32>(load_scale_word(TENSOR_SCALE_WORD));
}
