// multiply_add: products and sums of vectors in registers. No op: `profile` measures by it how fast f32 arithmetic can be.
//
// Flops: 64 per lane and turn, in eight chains, so that none waits for the one before it; bytes: none. Arithmetic is the
// limit. Chains go towards 1 and stay finite; they start from the lane, which no compiler knows, and the store never happens.
const TURNS: u32 = 16u;
const WORKGROUP: u32 = 8u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = vec4f(0.5);
  let start = vec4f(f32(id.x));
  var s0 = start;
  var s1 = start + 1.0;
  var s2 = start + 2.0;
  var s3 = start + 3.0;
  var s4 = start + 4.0;
  var s5 = start + 5.0;
  var s6 = start + 6.0;
  var s7 = start + 7.0;
  for (var i = 0u; i < TURNS; i++) {
    s0 = s0 * a + a;
    s1 = s1 * a + a;
    s2 = s2 * a + a;
    s3 = s3 * a + a;
    s4 = s4 * a + a;
    s5 = s5 * a + a;
    s6 = s6 * a + a;
    s7 = s7 * a + a;
  }
  let sum = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  if (all(sum == vec4f(-1.0))) { x[0] = sum; }
}
