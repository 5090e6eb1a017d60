// reduce: y[g] = SCALE * the fold of x over span g, one workgroup per span of x. A span is a row, or a stretch of
// the whole tensor whose results are then folded by a second launch.
//
// Bytes: 4 per element; flops: 1 per element. Memory bandwidth is the limit.
const COUNT_PACKS: u32 = 64u; // packs of x
const SPAN_PACKS: u32 = 64u; // packs of a span; the last span may be shorter
const SPANS: u32 = 1u;
const SCALE: f32 = 1.0f;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let span = group.x + group.y * GRID_X;
  if (span >= SPANS) { return; }
  let first = span * SPAN_PACKS;
  let end = min(first + SPAN_PACKS, COUNT_PACKS);
  var folded = Pack(FOLD_START);
  for (var i = first + lane; i < end; i += WORKGROUP) { folded = fold(folded, x[i]); }
  let all = fold_lanes(folded, lane);
  if (lane == 0u) { y[span] = all * SCALE; }
}
