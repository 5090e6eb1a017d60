// Pack: what one lane loads at once, here one f32 (rows whose width is not a multiple of 4). Kernels written
// with Pack serve both widths, since WGSL's operators and builtins take scalars and vectors alike.
alias Pack = f32;
alias PackU = u32;
const PACK: u32 = 1u;
// Index of each element within its pack.
const PACK_INDEX: u32 = 0u;

fn pack_sum(v: Pack) -> f32 {
  return v;
}

fn pack_max(v: Pack) -> f32 {
  return v;
}

fn pack_min_u32(v: PackU) -> u32 {
  return v;
}
