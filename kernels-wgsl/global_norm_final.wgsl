// global_norm, second launch: norm = sqrt(sum of the partial sums), one workgroup.
//
// Bytes: 4 per tile of 16,384 elements: negligible beside the first launch.
const TILES: u32 = 1u;
const WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < TILES; i += WORKGROUP) { sum += partial[i]; }
  let total = reduce_add(sum, lane);
  if (lane == 0u) { norm[0] = sqrt(total); }
}
