// attention_backward, second launch: dk = scale sum_t ds q and dv = sum_t p dy over the query rows t that see a
// key, for all query heads of its group; p and ds as in attention_backward_query. An invocation has ROWS key
// rows of one key head; a workgroup goes through query rows eight at a time, in a fixed order and without
// atomics, so the sums have the same bits every time.
//
// Per key and query: 8 D flops; q and dy once per workgroup, so arithmetic limits (see attention).
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 4u;
const SEQUENCE: u32 = 8u;
const TILES: u32 = 1u; // workgroups per block and key head
const GROUPS: u32 = 1u;
const SCALE: f32 = 1.0f;
const CAUSAL: u32 = 1u;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 8u;
const ROWS: u32 = 1u;
const QKV4: u32 = (HEADS + 2u * KV_HEADS) * DIM4;
const SHARING: u32 = HEADS / KV_HEADS; // query heads per key head

@group(0) @binding(0) var<storage, read_write> dy: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<vec4f>;

// Which of the eight queries from `query` on may attend the key in `row` (of document `own`).
fn attending(row: u32, own: u32, query: u32, left: u32, others: Documents) -> Mask {
  let low = vec4u(query) + INDEX_LOW;
  let high = vec4u(query) + INDEX_HIGH;
  var mask = same_document(own, others);
  mask.low &= INDEX_LOW <= vec4u(left);
  mask.high &= INDEX_HIGH <= vec4u(left);
  if (CAUSAL == 1u) {
    mask.low &= low >= vec4u(row);
    mask.high &= high >= vec4u(row);
  }
  if (WINDOW > 0u) {
    mask.low &= low < vec4u(row + WINDOW);
    mask.high &= high < vec4u(row + WINDOW);
  }
  return mask;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * GRID_X;
  if (index >= GROUPS) { return; }
  let key_head = (index / TILES) % KV_HEADS;
  let start = (index / (TILES * KV_HEADS)) * SEQUENCE;
  let first = start + (index % TILES) * WORKGROUP * ROWS;
  let last = min(first + WORKGROUP * ROWS, start + SEQUENCE) - 1u;
  let key_column = (HEADS + key_head) * DIM4;
  let value_column = key_column + KV_HEADS * DIM4;

  var row: array<u32, ROWS>;
  var own: array<u32, ROWS>;
  var k: array<vec4f, ROWS * DIM4>;
  var v: array<vec4f, ROWS * DIM4>;
  var dk: array<vec4f, ROWS * DIM4>;
  var dv: array<vec4f, ROWS * DIM4>;
  for (var r = 0u; r < ROWS; r++) {
    row[r] = min(first + r * WORKGROUP + lane, last);
    own[r] = document_of(row[r]);
    for (var d = 0u; d < dims(); d++) {
      k[r * DIM4 + d] = qkv[row[r] * QKV4 + key_column + d] * SCALE;
      v[r * DIM4 + d] = qkv[row[r] * QKV4 + value_column + d];
      dk[r * DIM4 + d] = vec4f();
      dv[r * DIM4 + d] = vec4f();
    }
  }

  let begin = select(start, first, CAUSAL == 1u);
  let end = select(start + SEQUENCE, min(start + SEQUENCE, last + WINDOW), WINDOW > 0u);
  for (var head = key_head * SHARING; head < (key_head + 1u) * SHARING; head++) {
    for (var query = begin; query < end; query += 8u) {
      let left = end - 1u - query;
      let others = documents_of(query, left, lane);
      var score: array<Eight, ROWS>;
      var gain: array<Eight, ROWS>;
      var held_q: array<HeldQkv, DIM4>;
      var held_g: array<HeldDy, DIM4>;
      let log_sum = tile_lse(query, left, head, lane);
      let shift = tile_delta(query, left, head, lane);
      for (var r = 0u; r < ROWS; r++) {
        score[r] = Eight(vec4f(), vec4f());
        gain[r] = Eight(-shift.low, -shift.high);
      }
      for (var d = 0u; d < dims(); d++) {
        held_q[d] = hold_qkv(query, left, head * DIM4 + d, lane);
        held_g[d] = hold_dy(query, left, head * DIM4 + d, lane);
        let q = tile_qkv(held_q[d]);
        let g = tile_dy(held_g[d]);
        for (var r = 0u; r < ROWS; r++) {
          score[r] = add_dots(score[r], k[r * DIM4 + d], q);
          gain[r] = add_dots(gain[r], v[r * DIM4 + d], g);
        }
      }
      for (var r = 0u; r < ROWS; r++) {
        let s = cap(score[r]);
        let mask = attending(row[r], own[r], query, left, others);
        let p = eight_select(0.0, Eight(exp(s.low - log_sum.low), exp(s.high - log_sum.high)), mask);
        score[r] = p;
        gain[r] = Eight(p.low * gain[r].low * cap_slope(s.low) * SCALE, p.high * gain[r].high * cap_slope(s.high) * SCALE);
      }
      for (var d = 0u; d < dims(); d++) {
        let q = tile_qkv(held_q[d]);
        let g = tile_dy(held_g[d]);
        for (var r = 0u; r < ROWS; r++) {
          dk[r * DIM4 + d] = add_weighted(dk[r * DIM4 + d], gain[r], q);
          dv[r * DIM4 + d] = add_weighted(dv[r * DIM4 + d], score[r], g);
        }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * WORKGROUP + lane <= last) {
      for (var d = 0u; d < dims(); d++) {
        dqkv[row[r] * QKV4 + key_column + d] = dk[r * DIM4 + d];
        dqkv[row[r] * QKV4 + value_column + d] = dv[r * DIM4 + d];
      }
    }
  }
}
