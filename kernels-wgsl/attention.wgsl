// attention: y = softmax(mask(scale q k^T)) v inside blocks of SEQUENCE rows, with lse = log(sum(exp(scores))).
// An invocation has ROWS query rows of one head in registers; a workgroup has ROWS * WORKGROUP consecutive rows
// of one block and goes through keys eight at a time (online softmax, rescaled once per tile). Linked with
// lib/eight, lib/visible_keys, a tile_qkv module, a documents module and a softcap module.
//
// Per row and key: 4 D flops. Keys and values are read once per workgroup: 8 D bytes for ROWS * WORKGROUP rows,
// so on a GPU (and from cache) arithmetic limits. On lavapipe a load costs about 6 instructions per lane and
// element, a multiply-add 2 per 8 lanes: ROWS = 4 with one load per subgroup makes both about equal.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 4u; // head size / 4
const SEQUENCE: u32 = 8u;
const TILES: u32 = 1u; // workgroups per block and head
const GROUPS: u32 = 1u;
const SCALE: f32 = 1.0f;
const CAUSAL: u32 = 1u;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 8u;
const ROWS: u32 = 1u;
const MASKED: f32 = -3.0e38f;
const QKV4: u32 = (HEADS + 2u * KV_HEADS) * DIM4; // vec4 in a row of qkv

@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * GRID_X;
  if (index >= GROUPS) { return; }
  let head = (index / TILES) % HEADS;
  let start = (index / (TILES * HEADS)) * SEQUENCE; // first row of the block
  let first = start + (index % TILES) * WORKGROUP * ROWS;
  let last = min(first + WORKGROUP * ROWS, start + SEQUENCE) - 1u;
  let key_column = (HEADS + head / (HEADS / KV_HEADS)) * DIM4;
  let value_column = key_column + KV_HEADS * DIM4;

  var row: array<u32, ROWS>;
  var own: array<u32, ROWS>;
  var top: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  var q: array<vec4f, ROWS * DIM4>;
  var sum: array<vec4f, ROWS * DIM4>;
  for (var r = 0u; r < ROWS; r++) {
    row[r] = min(first + r * WORKGROUP + lane, last); // lanes past the end repeat the last row and store nothing
    own[r] = document_of(row[r]);
    top[r] = MASKED;
    total[r] = 0.0;
    for (var d = 0u; d < dims(); d++) {
      q[r * DIM4 + d] = qkv[row[r] * QKV4 + head * DIM4 + d] * SCALE;
      sum[r * DIM4 + d] = vec4f();
    }
  }

  let begin = select(start, max(start + WINDOW, first + 1u) - WINDOW, WINDOW > 0u);
  let end = select(start + SEQUENCE, last + 1u, CAUSAL == 1u);
  for (var key = begin; key < end; key += 8u) {
    let left = end - 1u - key;
    let others = documents_of(key, left, lane);
    var score: array<Eight, ROWS>;
    var keep: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { score[r] = Eight(vec4f(), vec4f()); }
    for (var d = 0u; d < dims(); d++) {
      let k = tile_qkv(hold_qkv(key, left, key_column + d, lane));
      for (var r = 0u; r < ROWS; r++) { score[r] = add_dots(score[r], q[r * DIM4 + d], k); }
    }
    for (var r = 0u; r < ROWS; r++) {
      let mask = visible(row[r], own[r], key, left, others);
      let s = eight_select(MASKED, cap(score[r]), mask);
      let new_top = max(top[r], largest(s));
      keep[r] = exp(top[r] - new_top);
      top[r] = new_top;
      score[r] = weights_of(s, new_top, mask);
      total[r] = total[r] * keep[r] + sum_of(score[r]);
    }
    for (var d = 0u; d < dims(); d++) {
      let v = tile_qkv(hold_qkv(key, left, value_column + d, lane));
      for (var r = 0u; r < ROWS; r++) {
        sum[r * DIM4 + d] = add_weighted(sum[r * DIM4 + d] * keep[r], score[r], v);
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * WORKGROUP + lane <= last) {
      let some = total[r] > 0.0;
      let inverse = 1.0 / select(1.0, total[r], some);
      for (var d = 0u; d < dims(); d++) {
        y[(row[r] * HEADS + head) * DIM4 + d] = select(vec4f(), sum[r * DIM4 + d] * inverse, some);
      }
      lse[row[r] * HEADS + head] = select(MASKED, top[r] + log(total[r]), some);
    }
  }
}
