// attention_paged_decode: attention_paged of one row per sequence, where subgroups are short. A workgroup is one subgroup and
// has one row and 1 to 4 of the query heads that share a key head. Its lanes divide the dimensions of a head, so no lane
// is idle with few heads and a key or value that was loaded serves all of them. Scores are sums over the subgroup: every
// lane has those of all eight keys of a tile. Linked with lib/eight, a pool module and a softcap module.
//
// Per head and position: 4 D flops. Keys and values are read once per workgroup: 8 D bytes (f32) or 4 D (f16). A CPU
// driver loads lane by lane, 2 D words per position at ten instructions and more, and multiply-adds for three heads are
// 3 x 2 D / WORKGROUP: loads are the limit. Heads and keys are written out, since an array that is indexed in a loop is
// loaded as well.
enable subgroups;
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 1u; // head size / 4
const ROWS: u32 = 1u; // query rows
const SPAN: u32 = 1u; // heads of a workgroup, at most 4
const TILES: u32 = 1u; // workgroups per row and key head
const PAGES: u32 = 1u; // entries in a row of the page table
const SCALE: f32 = 1.0f;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 4u;
const MASKED: f32 = -3.0e38f;
const PADDING: u32 = 0xffffffffu;
const PAGE_TOKENS: u32 = 64u;
const SHARING: u32 = HEADS / KV_HEADS;
const PARTS: u32 = (DIM4 + WORKGROUP - 1u) / WORKGROUP; // vec4 of a head in a lane

@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> page_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(5) var<storage, read_write> position: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4f>;

// A lane's vec4 of a head: number `lane` and every WORKGROUP-th after it.
alias Part = array<vec4f, PARTS>;

// The softmax of a head so far.
struct State {
  top: f32,
  total: f32,
  keep: f32, // what earlier sums are worth after the last tile
}

// Where eight slots start.
struct Slots { low: vec4u, high: vec4u }

// Bound of the loops over a lane's parts, which are to stay loops (qkv is never empty): unrolled they compile slowly.
fn parts() -> u32 { return select(PARTS, 0u, arrayLength(&qkv) == 0u); }

fn load_query(row: u32, head: u32, lane: u32) -> Part {
  let at = (row * (HEADS + 2u * KV_HEADS) + head) * DIM4;
  var part: Part;
  for (var p = 0u; p < parts(); p++) {
    let d = p * WORKGROUP + lane;
    // Lanes past the last vec4 repeat it and count for nothing.
    part[p] = select(vec4f(), qkv[at + min(d, DIM4 - 1u)] * SCALE, d < DIM4);
  }
  return part;
}

fn tile_key(s: Slots, d: u32) -> Tile {
  return Tile(
    load_key(s.low.x + d), load_key(s.low.y + d), load_key(s.low.z + d), load_key(s.low.w + d),
    load_key(s.high.x + d), load_key(s.high.y + d), load_key(s.high.z + d), load_key(s.high.w + d),
  );
}

fn tile_value(s: Slots, d: u32) -> Tile {
  return Tile(
    load_value(s.low.x + d), load_value(s.low.y + d), load_value(s.low.z + d), load_value(s.low.w + d),
    load_value(s.high.x + d), load_value(s.high.y + d), load_value(s.high.z + d), load_value(s.high.w + d),
  );
}

// Weights of eight keys from the lane's part of their scores.
@diagnostic(off, subgroup_uniformity)
fn weigh(state: ptr<function, State>, part: Eight, seen: Mask) -> Eight {
  let s = eight_select(MASKED, cap(Eight(subgroupAdd(part.low), subgroupAdd(part.high))), seen);
  let top = max((*state).top, largest(s));
  let weights = weights_of(s, top, seen);
  let keep = exp((*state).top - top);
  *state = State(top, (*state).total * keep + sum_of(weights), keep);
  return weights;
}

fn store(row: u32, head: u32, lane: u32, state: State, sum: Part) {
  let inverse = select(0.0, 1.0 / state.total, state.total > 0.0);
  let at = (row * HEADS + head) * DIM4;
  var part = sum;
  for (var p = 0u; p < parts(); p++) {
    let d = p * WORKGROUP + lane;
    if (d < DIM4) { y[at + d] = part[p] * inverse; }
  }
}

// The bounds of the loops come from storage, but are the same in every lane.
@diagnostic(off, subgroup_uniformity)
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * GRID_X;
  let row = index / (TILES * KV_HEADS);
  if (row >= ROWS) { return; }
  let key_head = index / TILES % KV_HEADS;
  // Heads past the last repeat it and store nothing.
  let first = key_head * SHARING + index % TILES * SPAN;
  let last = key_head * SHARING + SHARING - 1u;
  let place = position[row];
  let run = sequence[row];

  var q0 = load_query(row, first, lane);
  var q1: Part;
  var q2: Part;
  var q3: Part;
  if (SPAN > 1u) { q1 = load_query(row, min(first + 1u, last), lane); }
  if (SPAN > 2u) { q2 = load_query(row, min(first + 2u, last), lane); }
  if (SPAN > 3u) { q3 = load_query(row, min(first + 3u, last), lane); }
  var state0 = State(MASKED, 0.0, 1.0);
  var state1 = state0;
  var state2 = state0;
  var state3 = state0;
  var sum0: Part;
  var sum1: Part;
  var sum2: Part;
  var sum3: Part;

  let begin = select(0u, max(place + 1u, WINDOW) - WINDOW, WINDOW > 0u);
  let end = select(place + 1u, 0u, run == PADDING);
  for (var key = begin & ~7u; key < end; key += 8u) {
    // Eight aligned positions never cross a page. Slots that the query does not see may hold anything, even NaN.
    let low = vec4u(max(begin, key));
    let high = vec4u(min(end - 1u, key + 7u));
    let u = vec4u(key) + INDEX_LOW;
    let w = vec4u(key) + INDEX_HIGH;
    let seen = Mask((u >= low) & (u <= high), (w >= low) & (w <= high));
    let page = page_table[run * PAGES + key / PAGE_TOKENS];
    let at = vec4u((page * KV_HEADS + key_head) * PAGE_TOKENS);
    let slots = Slots(
      (at + clamp(u, low, high) % PAGE_TOKENS) * DIM4,
      (at + clamp(w, low, high) % PAGE_TOKENS) * DIM4,
    );

    var w0 = Eight(vec4f(), vec4f());
    var w1 = w0;
    var w2 = w0;
    var w3 = w0;
    for (var p = 0u; p < parts(); p++) {
      let k = tile_key(slots, min(p * WORKGROUP + lane, DIM4 - 1u));
      w0 = add_dots(w0, q0[p], k);
      if (SPAN > 1u) { w1 = add_dots(w1, q1[p], k); }
      if (SPAN > 2u) { w2 = add_dots(w2, q2[p], k); }
      if (SPAN > 3u) { w3 = add_dots(w3, q3[p], k); }
    }
    w0 = weigh(&state0, w0, seen);
    if (SPAN > 1u) { w1 = weigh(&state1, w1, seen); }
    if (SPAN > 2u) { w2 = weigh(&state2, w2, seen); }
    if (SPAN > 3u) { w3 = weigh(&state3, w3, seen); }
    for (var p = 0u; p < parts(); p++) {
      let v = tile_value(slots, min(p * WORKGROUP + lane, DIM4 - 1u));
      sum0[p] = add_weighted(sum0[p] * state0.keep, w0, v);
      if (SPAN > 1u) { sum1[p] = add_weighted(sum1[p] * state1.keep, w1, v); }
      if (SPAN > 2u) { sum2[p] = add_weighted(sum2[p] * state2.keep, w2, v); }
      if (SPAN > 3u) { sum3[p] = add_weighted(sum3[p] * state3.keep, w3, v); }
    }
  }

  store(row, first, lane, state0, sum0);
  if (SPAN > 1u && first + 1u <= last) { store(row, first + 1u, lane, state1, sum1); }
  if (SPAN > 2u && first + 2u <= last) { store(row, first + 2u, lane, state2, sum2); }
  if (SPAN > 3u && first + 3u <= last) { store(row, first + 3u, lane, state3, sum3); }
}
