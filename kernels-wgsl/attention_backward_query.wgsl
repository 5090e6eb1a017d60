// attention_backward, first launch: dq = scale sum_u ds k with ds = p (dy.v - delta) cap', p = exp(s - lse), and
// delta = dy.y. Same division of work and the same modules as attention; a kept module writes what the second launch
// needs.
//
// Per row and key: 6 D flops, and 8 bytes written where p and ds are kept; keys and values once per workgroup, so arithmetic limits (see attention).
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 4u;
const SEQUENCE: u32 = 8u;
const TILES: u32 = 1u;
const GROUPS: u32 = 1u;
const SCALE: f32 = 1.0f;
const CAUSAL: u32 = 1u;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 8u;
const ROWS: u32 = 1u;
const QKV4: u32 = (HEADS + 2u * KV_HEADS) * DIM4;

@group(0) @binding(0) var<storage, read_write> dy: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * GRID_X;
  if (index >= GROUPS) { return; }
  let head = (index / TILES) % HEADS;
  let start = (index / (TILES * HEADS)) * SEQUENCE;
  let first = start + (index % TILES) * WORKGROUP * ROWS;
  let last = min(first + WORKGROUP * ROWS, start + SEQUENCE) - 1u;
  let key_column = (HEADS + head / (HEADS / KV_HEADS)) * DIM4;
  let value_column = key_column + KV_HEADS * DIM4;

  var row: array<u32, ROWS>;
  var own: array<u32, ROWS>;
  var log_sum: array<f32, ROWS>;
  var shift: array<f32, ROWS>;
  var q: array<vec4f, ROWS * DIM4>;
  var g: array<vec4f, ROWS * DIM4>;
  var dq: array<vec4f, ROWS * DIM4>;
  for (var r = 0u; r < ROWS; r++) {
    row[r] = min(first + r * WORKGROUP + lane, last);
    own[r] = document_of(row[r]);
    log_sum[r] = lse[row[r] * HEADS + head];
    shift[r] = 0.0;
    for (var d = 0u; d < dims(); d++) {
      q[r * DIM4 + d] = qkv[row[r] * QKV4 + head * DIM4 + d] * SCALE;
      g[r * DIM4 + d] = dy[(row[r] * HEADS + head) * DIM4 + d];
      shift[r] += dot(g[r * DIM4 + d], y[(row[r] * HEADS + head) * DIM4 + d]);
      dq[r * DIM4 + d] = vec4f();
    }
  }

  let begin = select(start, max(start + WINDOW, first + 1u) - WINDOW, WINDOW > 0u);
  let end = select(start + SEQUENCE, last + 1u, CAUSAL == 1u);
  for (var key = begin; key < end; key += 8u) {
    let left = end - 1u - key;
    let others = documents_of(key, left, lane);
    var score: array<Eight, ROWS>;
    var gain: array<Eight, ROWS>;
    var held: array<HeldQkv, DIM4>;
    for (var r = 0u; r < ROWS; r++) {
      score[r] = Eight(vec4f(), vec4f());
      gain[r] = Eight(vec4f(-shift[r]), vec4f(-shift[r]));
    }
    for (var d = 0u; d < dims(); d++) {
      held[d] = hold_qkv(key, left, key_column + d, lane);
      let k = tile_qkv(held[d]);
      let v = tile_qkv(hold_qkv(key, left, value_column + d, lane));
      for (var r = 0u; r < ROWS; r++) {
        score[r] = add_dots(score[r], q[r * DIM4 + d], k);
        gain[r] = add_dots(gain[r], g[r * DIM4 + d], v);
      }
    }
    for (var r = 0u; r < ROWS; r++) {
      let s = cap(score[r]);
      let p = weights_of(s, log_sum[r], visible(row[r], own[r], key, left, others));
      score[r] = Eight(p.low * gain[r].low * cap_slope(s.low) * SCALE, p.high * gain[r].high * cap_slope(s.high) * SCALE);
      keep_tile(row[r], head, key - start, p, score[r]);
    }
    for (var d = 0u; d < dims(); d++) {
      let k = tile_qkv(held[d]);
      for (var r = 0u; r < ROWS; r++) { dq[r * DIM4 + d] = add_weighted(dq[r * DIM4 + d], score[r], k); }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * WORKGROUP + lane <= last) {
      for (var d = 0u; d < dims(); d++) { dqkv[row[r] * QKV4 + head * DIM4 + d] = dq[r * DIM4 + d]; }
      keep_delta(row[r], head, shift[r]);
    }
  }
}
