// clip_factor(): what gradients are multiplied by, min(1, limit / (norm + 1e-6)); a limit of 0 or less is off.
@group(0) @binding(5) var<storage, read_write> norm: array<f32>;
@group(0) @binding(6) var<storage, read_write> limit: array<f32>;

fn clip_factor() -> f32 {
  let factor = limit[0] / (norm[0] + 0.000001);
  return select(1.0, factor, limit[0] > 0.0 && factor < 1.0);
}
