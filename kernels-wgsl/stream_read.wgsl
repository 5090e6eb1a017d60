// stream_read: reads a range once, a workgroup a span of it. No op: `profile` measures by it how fast memory can be read.
//
// Bytes: 16 per pack, read, and one addition of vectors: memory bandwidth is the limit. Four sums, so that none waits
// for the one before it. The range holds zeros, which only the host knows: the store never happens.
const SPAN: u32 = 512u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;
// Packs that the workgroup loads at once: one per lane, or one that all lanes load, which some drivers do faster.
const STRIDE: u32 = WORKGROUP;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = (group.x + group.y * GRID_X) * SPAN;
  let start = first + select(lane, 0u, STRIDE == 1u);
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  for (var i = start; i < first + SPAN; i += 4u * STRIDE) {
    s0 += x[i];
    s1 += x[i + STRIDE];
    s2 += x[i + 2u * STRIDE];
    s3 += x[i + 3u * STRIDE];
  }
  let sum = (s0 + s1) + (s2 + s3);
  if (any(sum != vec4f())) { x[start] = sum; }
}
