// stream_write: writes zeros to a range, a workgroup a span of it. No op: `profile` measures by it how fast memory can
// be written.
//
// Bytes: 16 per pack, written; no arithmetic. Memory bandwidth is the limit.
const SPAN: u32 = 512u;
const WORKGROUP: u32 = 8u;
const GRID_X: u32 = 65535u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = (group.x + group.y * GRID_X) * SPAN;
  for (var i = first + lane; i < first + SPAN; i += WORKGROUP) { x[i] = vec4f(); }
}
