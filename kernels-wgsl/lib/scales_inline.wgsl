// load_scale(block): scale of a block of 32 weights; the scales follow the quants in the same binding.
const SCALES_WORD: u32 = 0u;

fn load_scale(block: u32) -> f32 {
  let pair = unpack2x16float(load_scale_word(SCALES_WORD + block / 2u));
  return select(pair.x, pair.y, (block & 1u) == 1u);
}
