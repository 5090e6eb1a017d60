// norm_of_sums: norm = sqrt(sum of sums), one workgroup.
//
// Bytes: 4 per tile of 16,384 elements: negligible beside square_sums.
const COUNT: u32 = 1u;
const WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < COUNT; i += WORKGROUP) { sum += sums[i]; }
  let total = reduce_add(sum, lane);
  if (lane == 0u) { norm[0] = sqrt(total); }
}
