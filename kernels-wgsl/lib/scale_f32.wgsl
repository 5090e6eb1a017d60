// scale_of(word, place): a scale of a block, here f32.
const SCALES_IN_WORD: u32 = 1u;

fn scale_of(word: u32, place: u32) -> f32 {
  return bitcast<f32>(word);
}
