// load_scale(block): scale of a block of weights, by a scale_* module; the scales follow the quants in the same binding.
const SCALES_WORD: u32 = 0u;

fn load_scale(block: u32) -> f32 {
  return scale_of(load_scale_word(SCALES_WORD + block / SCALES_IN_WORD), block % SCALES_IN_WORD);
}
