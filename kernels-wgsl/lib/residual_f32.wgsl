// add_residual(v, index): adds the element of the residual stream that the output element stands for.
const RESIDUAL_BINDING: u32 = 3u;

@group(0) @binding(RESIDUAL_BINDING) var<storage, read_write> residual: array<f32>;

fn add_residual(v: f32, index: u32) -> f32 {
  return v + residual[index];
}
