// Pack: what one lane loads at once, here four f32 in one 16-byte load. See pack_1.
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
// Index of each element within its pack.
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
