// load_scale(block): scale of a block of weights, by a scale_* module; the scales have a binding of their own, because
// only a part of a large matrix is bound. SCALES_SKIP scales before the first one belong to earlier rows (alignment).
const SCALES_BINDING: u32 = 3u;
const SCALES_SKIP: u32 = 0u;

@group(0) @binding(SCALES_BINDING) var<storage, read_write> scales: array<u32>;

fn load_scale(block: u32) -> f32 {
  let place = block + SCALES_SKIP;
  return scale_of(scales[place / SCALES_IN_WORD], place % SCALES_IN_WORD);
}
