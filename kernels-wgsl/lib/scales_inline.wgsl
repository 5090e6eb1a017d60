// load_scale(block): scale of a block of 32 weights; the scales follow the quants in the same binding.
const SCALES_WORD: u32 = 0u;

fn load_scale(block: u32) -> f32 {
  return unpack2x16float(load_scale_word(SCALES_WORD + block / 2u) >> (block % 2u * 16u)).x;
}
