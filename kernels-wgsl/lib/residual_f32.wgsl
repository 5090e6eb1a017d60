// add_residual(v, index): adds the pack of the residual stream that stands where the output does.
const RESIDUAL_BINDING: u32 = 3u;

@group(0) @binding(RESIDUAL_BINDING) var<storage, read_write> residual: array<Pack>;

fn add_residual(v: Pack, index: u32) -> Pack {
  return v + residual[index];
}
