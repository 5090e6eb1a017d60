// tokens_write = tokens_write
const ROWS: u32 = 16u;
const BATCH: u32 = 1u;
const LENGTH: u32 = 64u;
const GRID_X: u32 = 1u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(3) var<storage, read_write> position: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (row >= ROWS) { return; }
  let s = sequence[row];
  let p = position[row];
  if (s < BATCH && p < LENGTH) { tokens[s * LENGTH + p] = ids[row]; }
}

// embedding_f16 = embedding + lib/pack_4 + lib/load_pack_4 + lib/weight_f16 + lib/row_of_id
const ROWS: u32 = 16u;
const WIDTH: u32 = 16u; // in packs
const VOCABULARY: u32 = 128u;
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 128u;
const GRID_X: u32 = 4u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * WIDTH) { return; }
  let row = row_of(ids[i / WIDTH]);
  if (row >= FIRST_ROW && row < FIRST_ROW + PART_ROWS) {
    y[i] = load_pack((row - FIRST_ROW) * WIDTH + i % WIDTH);
  } else if (FIRST_ROW == 0u && row >= VOCABULARY) {
    y[i] = Pack();
  }
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
fn load_pack(i: u32) -> Pack {
  return load_weight4(i);
}
const WEIGHT_WORDS: u32 = 4096u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn row_of(id: u32) -> u32 { return id; }

// norm = norm + lib/pack_4 + lib/statistics_rms + lib/reduce_tree + lib/load_pack_4 + lib/weight_f32 + lib/scale_only
const PACKS: u32 = 16u; // packs of a row
const ROWS: u32 = 16u;
const GRID_X: u32 = 16u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  let statistics = row_statistics(base, lane);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    y[base + i] = affine((x[base + i] - Pack(statistics.x)) * statistics.y, i);
  }
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
const EPS: f32 = 0.000009999999747378752f;

fn row_statistics(base: u32, lane: u32) -> vec2f {
  var squares = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let v = x[base + i];
    squares += v * v;
  }
  return vec2f(0.0, inverseSqrt(reduce_add(pack_sum(squares), lane) / f32(PACKS * PACK) + EPS));
}
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
fn load_pack(i: u32) -> Pack {
  return load_weight4(i);
}
const WEIGHT_WORDS: u32 = 64u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4f, WEIGHT_WORDS / 4u>;

fn load_weight4(i: u32) -> vec4f {
  return weight[i];
}
fn affine(v: Pack, i: u32) -> Pack {
  return v * load_pack(i);
}

// matmul_tile_f16 = matmul_tile + lib/rows_uniform + lib/tile_columns_packed + lib/pack_4 + lib/weight_f16 + lib/bias_none + lib/activate_none + lib/residual_none
const ROWS: u32 = 16u;
const ROW_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 128u;
const Y_WIDTH: u32 = 128u;
const FIRST_COLUMN: u32 = 0u;
const TILE_ROWS: u32 = 4u;
const LANES: u32 = 64u;
const TILES_X: u32 = 1u;
const TILES: u32 = 4u;
const GRID_X: u32 = 4u;
const EPILOGUE: bool = false;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f, ROWS * ROW_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

fn dots(v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  return vec4f(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

fn store_row(first: u32, i: u32, across: u32, lane: u32, sums: vec4f) {
  let row = first + tile_row(i, lane);
  if (row < ROWS) { store_sums(row, across, lane, sums); }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let across = tile % TILES_X;
  let starts = min(tile_columns(across, lane), vec4u(COLUMNS - 1u));
  let bias = vec4f(load_bias(starts.x), load_bias(starts.y), load_bias(starts.z), load_bias(starts.w));
  var s0 = bias;
  var s1 = bias;
  var s2 = bias;
  var s3 = bias;
  var s4 = bias;
  var s5 = bias;
  var s6 = bias;
  var s7 = bias;
  var s8 = bias;
  var s9 = bias;
  var s10 = bias;
  var s11 = bias;
  var s12 = bias;
  var s13 = bias;
  var s14 = bias;
  var s15 = bias;
  for (var k = 0u; k < ROW_WIDTH4; k++) {
    let held = hold_rows(row, k, lane);
    let w0 = load_weight4(starts.x * ROW_WIDTH4 + k);
    let w1 = load_weight4(starts.y * ROW_WIDTH4 + k);
    let w2 = load_weight4(starts.z * ROW_WIDTH4 + k);
    let w3 = load_weight4(starts.w * ROW_WIDTH4 + k);
    if (TILE_ROWS > 0u) { s0 += dots(row_0(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 1u) { s1 += dots(row_1(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 2u) { s2 += dots(row_2(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 3u) { s3 += dots(row_3(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 4u) { s4 += dots(row_4(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 5u) { s5 += dots(row_5(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 6u) { s6 += dots(row_6(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 7u) { s7 += dots(row_7(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 8u) { s8 += dots(row_8(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 9u) { s9 += dots(row_9(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 10u) { s10 += dots(row_10(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 11u) { s11 += dots(row_11(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 12u) { s12 += dots(row_12(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 13u) { s13 += dots(row_13(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 14u) { s14 += dots(row_14(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 15u) { s15 += dots(row_15(held), w0, w1, w2, w3); }
  }
  if (TILE_ROWS > 0u) { store_row(row, 0u, across, lane, s0); }
  if (TILE_ROWS > 1u) { store_row(row, 1u, across, lane, s1); }
  if (TILE_ROWS > 2u) { store_row(row, 2u, across, lane, s2); }
  if (TILE_ROWS > 3u) { store_row(row, 3u, across, lane, s3); }
  if (TILE_ROWS > 4u) { store_row(row, 4u, across, lane, s4); }
  if (TILE_ROWS > 5u) { store_row(row, 5u, across, lane, s5); }
  if (TILE_ROWS > 6u) { store_row(row, 6u, across, lane, s6); }
  if (TILE_ROWS > 7u) { store_row(row, 7u, across, lane, s7); }
  if (TILE_ROWS > 8u) { store_row(row, 8u, across, lane, s8); }
  if (TILE_ROWS > 9u) { store_row(row, 9u, across, lane, s9); }
  if (TILE_ROWS > 10u) { store_row(row, 10u, across, lane, s10); }
  if (TILE_ROWS > 11u) { store_row(row, 11u, across, lane, s11); }
  if (TILE_ROWS > 12u) { store_row(row, 12u, across, lane, s12); }
  if (TILE_ROWS > 13u) { store_row(row, 13u, across, lane, s13); }
  if (TILE_ROWS > 14u) { store_row(row, 14u, across, lane, s14); }
  if (TILE_ROWS > 15u) { store_row(row, 15u, across, lane, s15); }
  if (EPILOGUE) {
    for (var i = row; i < min(row + TILE_ROWS, ROWS); i++) { finish_sums(i, across, lane); }
  }
}
struct Held {
  r0: vec4f,
  r1: vec4f,
  r2: vec4f,
  r3: vec4f,
  r4: vec4f,
  r5: vec4f,
  r6: vec4f,
  r7: vec4f,
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  var h: Held;
  if (TILE_ROWS > 0u) { h.r0 = rows[min(first + 0u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 1u) { h.r1 = rows[min(first + 1u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 2u) { h.r2 = rows[min(first + 2u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 3u) { h.r3 = rows[min(first + 3u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 4u) { h.r4 = rows[min(first + 4u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 5u) { h.r5 = rows[min(first + 5u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 6u) { h.r6 = rows[min(first + 6u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 7u) { h.r7 = rows[min(first + 7u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  return h;
}
fn tile_row(i: u32, lane: u32) -> u32 { return i; }

fn row_0(h: Held) -> vec4f { return h.r0; }
fn row_1(h: Held) -> vec4f { return h.r1; }
fn row_2(h: Held) -> vec4f { return h.r2; }
fn row_3(h: Held) -> vec4f { return h.r3; }
fn row_4(h: Held) -> vec4f { return h.r4; }
fn row_5(h: Held) -> vec4f { return h.r5; }
fn row_6(h: Held) -> vec4f { return h.r6; }
fn row_7(h: Held) -> vec4f { return h.r7; }
fn row_8(h: Held) -> vec4f { return vec4f(); }
fn row_9(h: Held) -> vec4f { return vec4f(); }
fn row_10(h: Held) -> vec4f { return vec4f(); }
fn row_11(h: Held) -> vec4f { return vec4f(); }
fn row_12(h: Held) -> vec4f { return vec4f(); }
fn row_13(h: Held) -> vec4f { return vec4f(); }
fn row_14(h: Held) -> vec4f { return vec4f(); }
fn row_15(h: Held) -> vec4f { return vec4f(); }
fn tile_columns(tile: u32, lane: u32) -> vec4u {
  return vec4u((tile * LANES + lane) * 4u) + vec4u(0u, 1u, 2u, 3u);
}

fn pack_index(row: u32, tile: u32, lane: u32) -> u32 {
  return (row * Y_WIDTH + FIRST_COLUMN) / 4u + tile * LANES + lane;
}

fn store_sums(row: u32, tile: u32, lane: u32, sums: vec4f) {
  if (tile * LANES + lane < COLUMNS / 4u) { y[pack_index(row, tile, lane)] = sums; }
}

fn finish_sums(row: u32, tile: u32, lane: u32) {
  if (tile * LANES + lane >= COLUMNS / 4u) { return; }
  let at = pack_index(row, tile, lane);
  let v = y[at];
  y[at] = add_residual(vec4f(activate(v.x), activate(v.y), activate(v.z), activate(v.w)), at);
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
const WEIGHT_WORDS: u32 = 4096u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
fn activate(v: f32) -> f32 {
  return v;
}
fn add_residual(v: Pack, index: u32) -> Pack {
  return v;
}

// rope_kv_write_f16 = rope_kv_write + lib/cache_words_f16 + lib/store_f16
const HEADS: u32 = 4u;
const KV_HEADS: u32 = 2u;
const HEAD: u32 = 4u;
const PAIRS: u32 = 8u; // pairs that are rotated of a head
const INTERLEAVED: u32 = 0u;
const PAGES: u32 = 1u; // entries in a row of the page table
const COUNT: u32 = 512u; // invocations that have work
const GRID_X: u32 = 8u;
const WORKGROUP: u32 = 64u;
const PAGE_TOKENS: u32 = 64u;
const PADDING: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> table: array<vec2f>; // [positions][PAIRS / 2 of cosines, as many of sines]
@group(0) @binding(2) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(3) var<storage, read_write> v_pool: array<u32>;
@group(0) @binding(4) var<storage, read_write> page_table: array<u32>;
@group(0) @binding(5) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(6) var<storage, read_write> position: array<u32>;
struct Slot {
  live: bool,
  first: u32,
}

fn to_keys(slot: Slot, head: u32, i: u32, x: vec4f) {
  if (!slot.live || head < HEADS) { return; }
  let words = cache_words(bitcast<vec4u>(x));
  let to = (slot.first + (head - HEADS) * PAGE_TOKENS * HEAD + i) * WORDS;
  for (var j = 0u; j < WORDS; j++) { k_pool[to + j] = words[j]; }
}

fn to_values(slot: Slot, head: u32, i: u32, x: vec4f) {
  if (!slot.live) { return; }
  let words = cache_words(bitcast<vec4u>(x));
  let to = (slot.first + (head - HEADS - KV_HEADS) * PAGE_TOKENS * HEAD + i) * WORDS;
  for (var j = 0u; j < WORDS; j++) { v_pool[to + j] = words[j]; }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (index >= COUNT) { return; }
  let i = index % HEAD;
  let head = (index / HEAD) % (HEADS + 2u * KV_HEADS);
  let row = index / (HEAD * (HEADS + 2u * KV_HEADS));
  let place = position[row];
  let owner = sequence[row];
  var slot = Slot(owner != PADDING, 0u);
  if (slot.live) {
    let page = page_table[owner * PAGES + place / PAGE_TOKENS];
    slot.first = (page * KV_HEADS * PAGE_TOKENS + place % PAGE_TOKENS) * HEAD;
  }
  let x = qkv[index];
  if (head >= HEADS + KV_HEADS) {
    to_values(slot, head, i, x);
    return;
  }
  if (i >= PAIRS / 2u) {
    to_keys(slot, head, i, x);
    return;
  }
  let at = place * PAIRS;
  if (INTERLEAVED == 1u) {
    let c = table[at + i].xxyy;
    let s = table[at + PAIRS / 2u + i].xxyy;
    let y = x * c + x.yxwz * s * vec4f(-1.0, 1.0, -1.0, 1.0);
    qkv[index] = y;
    to_keys(slot, head, i, y);
    return;
  }
  let half = PAIRS / 4u;
  if (i >= half) { return; } // its partner's invocation has it
  let b = qkv[index + half];
  let c = vec4f(table[at + 2u * i], table[at + 2u * i + 1u]);
  let s = vec4f(table[at + PAIRS / 2u + 2u * i], table[at + PAIRS / 2u + 2u * i + 1u]);
  let ya = x * c - b * s;
  let yb = b * c + x * s;
  qkv[index] = ya;
  qkv[index + half] = yb;
  to_keys(slot, head, i, ya);
  to_keys(slot, head, i + half, yb);
}
const WORDS: u32 = 2u;

fn cache_words(bits: vec4u) -> vec4u {
  let low = f16_bits(bits.x) | (f16_bits(bits.y) << 16u);
  let high = f16_bits(bits.z) | (f16_bits(bits.w) << 16u);
  return vec4u(low, high, 0u, 0u);
}
fn f16_bits(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; } // NaN
  if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; } // rounds to infinity
  if (magnitude >= 0x38800000u) { // normal
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) { return sign; } // below half of the smallest subnormal
  let shift = 126u - (magnitude >> 23u); // 14 to 24
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let quotient = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let up = rest > half || (rest == half && (quotient & 1u) == 1u);
  return sign | (quotient + select(0u, 1u, up));
}

// attention_paged_f16_direct = attention_paged + lib/eight + lib/loops_counted + lib/tile_pool_direct + lib/pool_f16 + lib/softcap_none
const HEADS: u32 = 4u;
const KV_HEADS: u32 = 2u;
const DIM4: u32 = 4u;
const ITEMS: u32 = 32u; // rows times query heads per key head
const SPAN: u32 = 8u; // items of a workgroup, at most ROWS * WORKGROUP
const TILES: u32 = 4u; // workgroups per key head
const GROUPS: u32 = 8u;
const PAGES: u32 = 1u; // entries in a row of the page table
const SCALE: f32 = 0.25f;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 8u;
const WORKGROUP: u32 = 8u;
const ROWS: u32 = 1u;
const MASKED: f32 = -3.0e38f;
const PADDING: u32 = 0xffffffffu;
const PAGE_TOKENS: u32 = 64u;
const SHARING: u32 = HEADS / KV_HEADS;
const QKV4: u32 = (HEADS + 2u * KV_HEADS) * DIM4;

@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> page_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(5) var<storage, read_write> position: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4f>;
fn visible(place: u32, key: u32, low: u32, high: u32) -> Mask {
  let u = vec4u(key) + INDEX_LOW;
  let w = vec4u(key) + INDEX_HIGH;
  let end = vec4u(min(place, key + high));
  let begin = vec4u(key + low);
  var mask = Mask((u <= end) & (u >= begin), (w <= end) & (w >= begin));
  if (WINDOW > 0u) {
    mask.low &= u + WINDOW > vec4u(place);
    mask.high &= w + WINDOW > vec4u(place);
  }
  return mask;
}
@diagnostic(off, subgroup_uniformity)
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * GRID_X;
  if (index >= GROUPS) { return; }
  let key_head = index / TILES;
  let first = (index % TILES) * SPAN;
  let last = min(first + SPAN, ITEMS) - 1u;

  var item: array<u32, ROWS>; // row * HEADS + head
  var place: array<u32, ROWS>;
  var top: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  var q: array<vec4f, ROWS * DIM4>;
  var sum: array<vec4f, ROWS * DIM4>;
  for (var r = 0u; r < ROWS; r++) {
    let i = min(first + r * WORKGROUP + lane, last); // lanes past the end repeat the last item and store nothing
    let row = i / SHARING;
    let head = key_head * SHARING + i % SHARING;
    item[r] = row * HEADS + head;
    place[r] = position[row];
    top[r] = MASKED;
    total[r] = 0.0;
    for (var d = 0u; d < dims(); d++) {
      q[r * DIM4 + d] = qkv[row * QKV4 + head * DIM4 + d] * SCALE;
      sum[r * DIM4 + d] = vec4f();
    }
  }

  let last_row = last / SHARING;
  var next = first / SHARING;
  while (next <= last_row) {
    let run = sequence[next];
    let run_first = next;
    var nearest = position[next];
    var farthest = nearest;
    for (next++; next <= last_row && sequence[next] == run; next++) {
      nearest = min(nearest, position[next]);
      farthest = max(farthest, position[next]);
    }
    if (run == PADDING) { continue; }
    let begin = select(0u, max(nearest + 1u, WINDOW) - WINDOW, WINDOW > 0u);
    for (var key = begin & ~7u; key <= farthest; key += 8u) {
      let low = max(begin, key) - key;
      let high = min(farthest - key, 7u);
      let page = page_table[run * PAGES + key / PAGE_TOKENS];
      let at = ((page * KV_HEADS + key_head) * PAGE_TOKENS + key % PAGE_TOKENS) * DIM4;
      var score: array<Eight, ROWS>;
      var keep: array<f32, ROWS>;
      for (var r = 0u; r < ROWS; r++) { score[r] = Eight(vec4f(), vec4f()); }
      for (var d = 0u; d < dims(); d++) {
        let k = tile_key(at + d, low, high, lane);
        for (var r = 0u; r < ROWS; r++) { score[r] = add_dots(score[r], q[r * DIM4 + d], k); }
      }
      for (var r = 0u; r < ROWS; r++) {
        var mask = visible(place[r], key, low, high);
        let row = item[r] / HEADS;
        mask.low &= vec4<bool>(row >= run_first && row < next);
        mask.high &= vec4<bool>(row >= run_first && row < next);
        let s = eight_select(MASKED, cap(score[r]), mask);
        let new_top = max(top[r], largest(s));
        keep[r] = exp(top[r] - new_top);
        top[r] = new_top;
        score[r] = weights_of(s, new_top, mask);
        total[r] = total[r] * keep[r] + sum_of(score[r]);
      }
      for (var d = 0u; d < dims(); d++) {
        let v = tile_value(at + d, low, high, lane);
        for (var r = 0u; r < ROWS; r++) {
          sum[r * DIM4 + d] = add_weighted(sum[r * DIM4 + d] * keep[r], score[r], v);
        }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * WORKGROUP + lane <= last) {
      let inverse = select(0.0, 1.0 / total[r], total[r] > 0.0);
      for (var d = 0u; d < dims(); d++) { y[item[r] * DIM4 + d] = sum[r * DIM4 + d] * inverse; }
    }
  }
}
struct Eight { low: vec4f, high: vec4f }
struct Tile { a: vec4f, b: vec4f, c: vec4f, d: vec4f, e: vec4f, f: vec4f, g: vec4f, h: vec4f }
struct Mask { low: vec4<bool>, high: vec4<bool> }

fn add_dots(s: Eight, x: vec4f, t: Tile) -> Eight {
  return Eight(
    s.low + vec4f(dot(x, t.a), dot(x, t.b), dot(x, t.c), dot(x, t.d)),
    s.high + vec4f(dot(x, t.e), dot(x, t.f), dot(x, t.g), dot(x, t.h)),
  );
}
fn add_weighted(sum: vec4f, w: Eight, t: Tile) -> vec4f {
  var s = sum;
  s += w.low.x * t.a;
  s += w.low.y * t.b;
  s += w.low.z * t.c;
  s += w.low.w * t.d;
  s += w.high.x * t.e;
  s += w.high.y * t.f;
  s += w.high.z * t.g;
  s += w.high.w * t.h;
  return s;
}

fn largest(s: Eight) -> f32 {
  let m = max(s.low, s.high);
  return max(max(m.x, m.y), max(m.z, m.w));
}

fn sum_of(s: Eight) -> f32 {
  let p = s.low + s.high;
  return (p.x + p.y) + (p.z + p.w);
}

fn eight_select(no: f32, s: Eight, yes: Mask) -> Eight {
  return Eight(select(vec4f(no), s.low, yes.low), select(vec4f(no), s.high, yes.high));
}
fn weights_of(s: Eight, top: f32, yes: Mask) -> Eight {
  return eight_select(0.0, Eight(exp(s.low - top), exp(s.high - top)), yes);
}

const INDEX_LOW: vec4u = vec4u(0u, 1u, 2u, 3u);
const INDEX_HIGH: vec4u = vec4u(4u, 5u, 6u, 7u);
fn dims() -> u32 { return select(DIM4, 0u, arrayLength(&qkv) == 0u); } // vec4 in a head
fn eight() -> u32 { return select(8u, 0u, arrayLength(&qkv) == 0u); }
fn tile_key(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = load_key(at + clamp(j, low, high) * DIM4); }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

fn tile_value(at: u32, low: u32, high: u32, lane: u32) -> Tile {
  var t: array<vec4f, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = load_value(at + clamp(j, low, high) * DIM4); }
  return Tile(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}
@group(0) @binding(1) var<storage, read_write> k_pool: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<vec2u>;

fn load_key(i: u32) -> vec4f {
  let words = k_pool[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn load_value(i: u32) -> vec4f {
  let words = v_pool[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn cap(s: Eight) -> Eight { return s; }
fn cap_slope(capped: vec4f) -> vec4f { return vec4f(1.0); }

// matmul_tile_f16 = matmul_tile + lib/rows_uniform + lib/tile_columns_packed + lib/pack_4 + lib/weight_f16 + lib/bias_none + lib/activate_none + lib/residual_f32
const ROWS: u32 = 16u;
const ROW_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 64u;
const Y_WIDTH: u32 = 64u;
const FIRST_COLUMN: u32 = 0u;
const TILE_ROWS: u32 = 4u;
const LANES: u32 = 64u;
const TILES_X: u32 = 1u;
const TILES: u32 = 4u;
const GRID_X: u32 = 4u;
const EPILOGUE: bool = true;

@group(0) @binding(0) var<storage, read_write> rows: array<vec4f, ROWS * ROW_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

fn dots(v: vec4f, w0: vec4f, w1: vec4f, w2: vec4f, w3: vec4f) -> vec4f {
  return vec4f(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

fn store_row(first: u32, i: u32, across: u32, lane: u32, sums: vec4f) {
  let row = first + tile_row(i, lane);
  if (row < ROWS) { store_sums(row, across, lane, sums); }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.x + group.y * GRID_X;
  if (tile >= TILES) { return; }
  let row = tile / TILES_X * TILE_ROWS;
  let across = tile % TILES_X;
  let starts = min(tile_columns(across, lane), vec4u(COLUMNS - 1u));
  let bias = vec4f(load_bias(starts.x), load_bias(starts.y), load_bias(starts.z), load_bias(starts.w));
  var s0 = bias;
  var s1 = bias;
  var s2 = bias;
  var s3 = bias;
  var s4 = bias;
  var s5 = bias;
  var s6 = bias;
  var s7 = bias;
  var s8 = bias;
  var s9 = bias;
  var s10 = bias;
  var s11 = bias;
  var s12 = bias;
  var s13 = bias;
  var s14 = bias;
  var s15 = bias;
  for (var k = 0u; k < ROW_WIDTH4; k++) {
    let held = hold_rows(row, k, lane);
    let w0 = load_weight4(starts.x * ROW_WIDTH4 + k);
    let w1 = load_weight4(starts.y * ROW_WIDTH4 + k);
    let w2 = load_weight4(starts.z * ROW_WIDTH4 + k);
    let w3 = load_weight4(starts.w * ROW_WIDTH4 + k);
    if (TILE_ROWS > 0u) { s0 += dots(row_0(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 1u) { s1 += dots(row_1(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 2u) { s2 += dots(row_2(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 3u) { s3 += dots(row_3(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 4u) { s4 += dots(row_4(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 5u) { s5 += dots(row_5(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 6u) { s6 += dots(row_6(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 7u) { s7 += dots(row_7(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 8u) { s8 += dots(row_8(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 9u) { s9 += dots(row_9(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 10u) { s10 += dots(row_10(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 11u) { s11 += dots(row_11(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 12u) { s12 += dots(row_12(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 13u) { s13 += dots(row_13(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 14u) { s14 += dots(row_14(held), w0, w1, w2, w3); }
    if (TILE_ROWS > 15u) { s15 += dots(row_15(held), w0, w1, w2, w3); }
  }
  if (TILE_ROWS > 0u) { store_row(row, 0u, across, lane, s0); }
  if (TILE_ROWS > 1u) { store_row(row, 1u, across, lane, s1); }
  if (TILE_ROWS > 2u) { store_row(row, 2u, across, lane, s2); }
  if (TILE_ROWS > 3u) { store_row(row, 3u, across, lane, s3); }
  if (TILE_ROWS > 4u) { store_row(row, 4u, across, lane, s4); }
  if (TILE_ROWS > 5u) { store_row(row, 5u, across, lane, s5); }
  if (TILE_ROWS > 6u) { store_row(row, 6u, across, lane, s6); }
  if (TILE_ROWS > 7u) { store_row(row, 7u, across, lane, s7); }
  if (TILE_ROWS > 8u) { store_row(row, 8u, across, lane, s8); }
  if (TILE_ROWS > 9u) { store_row(row, 9u, across, lane, s9); }
  if (TILE_ROWS > 10u) { store_row(row, 10u, across, lane, s10); }
  if (TILE_ROWS > 11u) { store_row(row, 11u, across, lane, s11); }
  if (TILE_ROWS > 12u) { store_row(row, 12u, across, lane, s12); }
  if (TILE_ROWS > 13u) { store_row(row, 13u, across, lane, s13); }
  if (TILE_ROWS > 14u) { store_row(row, 14u, across, lane, s14); }
  if (TILE_ROWS > 15u) { store_row(row, 15u, across, lane, s15); }
  if (EPILOGUE) {
    for (var i = row; i < min(row + TILE_ROWS, ROWS); i++) { finish_sums(i, across, lane); }
  }
}
struct Held {
  r0: vec4f,
  r1: vec4f,
  r2: vec4f,
  r3: vec4f,
  r4: vec4f,
  r5: vec4f,
  r6: vec4f,
  r7: vec4f,
}

fn hold_rows(first: u32, column: u32, lane: u32) -> Held {
  var h: Held;
  if (TILE_ROWS > 0u) { h.r0 = rows[min(first + 0u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 1u) { h.r1 = rows[min(first + 1u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 2u) { h.r2 = rows[min(first + 2u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 3u) { h.r3 = rows[min(first + 3u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 4u) { h.r4 = rows[min(first + 4u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 5u) { h.r5 = rows[min(first + 5u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 6u) { h.r6 = rows[min(first + 6u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  if (TILE_ROWS > 7u) { h.r7 = rows[min(first + 7u, ROWS - 1u) * ROW_WIDTH4 + column]; }
  return h;
}
fn tile_row(i: u32, lane: u32) -> u32 { return i; }

fn row_0(h: Held) -> vec4f { return h.r0; }
fn row_1(h: Held) -> vec4f { return h.r1; }
fn row_2(h: Held) -> vec4f { return h.r2; }
fn row_3(h: Held) -> vec4f { return h.r3; }
fn row_4(h: Held) -> vec4f { return h.r4; }
fn row_5(h: Held) -> vec4f { return h.r5; }
fn row_6(h: Held) -> vec4f { return h.r6; }
fn row_7(h: Held) -> vec4f { return h.r7; }
fn row_8(h: Held) -> vec4f { return vec4f(); }
fn row_9(h: Held) -> vec4f { return vec4f(); }
fn row_10(h: Held) -> vec4f { return vec4f(); }
fn row_11(h: Held) -> vec4f { return vec4f(); }
fn row_12(h: Held) -> vec4f { return vec4f(); }
fn row_13(h: Held) -> vec4f { return vec4f(); }
fn row_14(h: Held) -> vec4f { return vec4f(); }
fn row_15(h: Held) -> vec4f { return vec4f(); }
fn tile_columns(tile: u32, lane: u32) -> vec4u {
  return vec4u((tile * LANES + lane) * 4u) + vec4u(0u, 1u, 2u, 3u);
}

fn pack_index(row: u32, tile: u32, lane: u32) -> u32 {
  return (row * Y_WIDTH + FIRST_COLUMN) / 4u + tile * LANES + lane;
}

fn store_sums(row: u32, tile: u32, lane: u32, sums: vec4f) {
  if (tile * LANES + lane < COLUMNS / 4u) { y[pack_index(row, tile, lane)] = sums; }
}

fn finish_sums(row: u32, tile: u32, lane: u32) {
  if (tile * LANES + lane >= COLUMNS / 4u) { return; }
  let at = pack_index(row, tile, lane);
  let v = y[at];
  y[at] = add_residual(vec4f(activate(v.x), activate(v.y), activate(v.z), activate(v.w)), at);
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
const WEIGHT_WORDS: u32 = 2048u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
fn activate(v: f32) -> f32 {
  return v;
}
const RESIDUAL_BINDING: u32 = 3u;

@group(0) @binding(RESIDUAL_BINDING) var<storage, read_write> residual: array<Pack>;

fn add_residual(v: Pack, index: u32) -> Pack {
  return v + residual[index];
}

// gated = gated + lib/pack_4 + lib/activation_pack_4 + lib/activation_silu + lib/activation
const WIDTH_PACKS: u32 = 24u; // packs of one half row
const PACKS: u32 = 384u; // packs of y
const GRID_X: u32 = 6u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<Pack>;
@group(0) @binding(1) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= PACKS) { return; }
  let gate = i + (i / WIDTH_PACKS) * WIDTH_PACKS;
  y[i] = activation_pack(x[gate]) * x[gate + WIDTH_PACKS];
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
fn activation_pack(v: Pack) -> Pack {
  return vec4f(activation(v.x), activation(v.y), activation(v.z), activation(v.w));
}

fn activation_derivative_pack(v: Pack) -> Pack {
  return vec4f(
    activation_derivative(v.x),
    activation_derivative(v.y),
    activation_derivative(v.z),
    activation_derivative(v.w),
  );
}
fn activation(v: f32) -> f32 {
  return silu(v);
}

fn activation_derivative(v: f32) -> f32 {
  return silu_derivative(v);
}
fn sigmoid_pair(x: f32) -> vec2f {
  let e = exp(clamp(-x, -87.0, 87.0));
  let s = 1.0 / (1.0 + e);
  return vec2f(s, e * s);
}

fn silu(x: f32) -> f32 {
  return x * sigmoid_pair(x).x;
}

fn silu_derivative(x: f32) -> f32 {
  let s = sigmoid_pair(x);
  return s.x * (1.0 + x * s.y);
}
const GELU_SCALE: f32 = 1.5957691216057308; // 2 sqrt(2/pi)
const GELU_CUBIC: f32 = 0.044715;
fn gelu_argument(x: f32) -> f32 {
  return clamp(x, -16.0, 16.0);
}

fn gelu_tanh(x: f32) -> f32 {
  let c = gelu_argument(x);
  return x * sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c)).x;
}

fn gelu_tanh_derivative(x: f32) -> f32 {
  let c = gelu_argument(x);
  let s = sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c));
  return s.x + s.x * (s.y * c * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * c * c));
}

// embedding_f32 = embedding + lib/pack_4 + lib/load_pack_4 + lib/weight_f32 + lib/row_of_id
const ROWS: u32 = 1u;
const WIDTH: u32 = 16u; // in packs
const VOCABULARY: u32 = 16u;
const FIRST_ROW: u32 = 0u;
const PART_ROWS: u32 = 16u;
const GRID_X: u32 = 1u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (i >= ROWS * WIDTH) { return; }
  let row = row_of(ids[i / WIDTH]);
  if (row >= FIRST_ROW && row < FIRST_ROW + PART_ROWS) {
    y[i] = load_pack((row - FIRST_ROW) * WIDTH + i % WIDTH);
  } else if (FIRST_ROW == 0u && row >= VOCABULARY) {
    y[i] = Pack();
  }
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
fn load_pack(i: u32) -> Pack {
  return load_weight4(i);
}
const WEIGHT_WORDS: u32 = 1024u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4f, WEIGHT_WORDS / 4u>;

fn load_weight4(i: u32) -> vec4f {
  return weight[i];
}
fn row_of(id: u32) -> u32 { return id; }

// matmul_vector_f16 = matmul_vector + lib/pack_1 + lib/weight_f16 + lib/chunk_4 + lib/reduce_tree + lib/bias_none + lib/activate_none + lib/residual_none
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 128u;
const FIRST_COLUMN: u32 = 0u;
const UPS: u32 = 0u;
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 64u;
const GRID_X: u32 = 32u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;
fn column_of(first: u32, j: u32) -> u32 {
  return select(first + j, first + j / 2u, UPS > 0u);
}
fn start(first: u32, j: u32) -> u32 {
  return (min(column_of(first, j), COLUMNS - 1u) + j % 2u * UPS) * ROW_CHUNKS;
}

@diagnostic(off, subgroup_uniformity)
fn finish(first: u32, j: u32, sums0: vec4f, sums1: vec4f, lane: u32) {
  let sum0 = reduce_add(dot(sums0, vec4f(1.0)), lane);
  let sum1 = reduce_add(dot(sums1, vec4f(1.0)), lane);
  let column = column_of(first, j);
  if (lane != 0u || column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  let value = activate(sum0 + load_bias(column));
  if (UPS > 0u) {
    y[at] = value * (sum1 + load_bias(column + UPS));
    return;
  }
  y[at] = add_residual(value, at);
  if (column + 1u < COLUMNS) { y[at + 1u] = add_residual(activate(sum1 + load_bias(column + 1u)), at + 1u); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = column_of(0u, (group.x + group.y * GRID_X) * TILE_COLUMNS);
  if (column >= COLUMNS) { return; }
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  for (var chunk = lane; chunk < ROW_CHUNKS; chunk += WORKGROUP) {
    let xs = load_chunk(chunk);
    s0 += multiply_chunk(start(column, 0u) + chunk, xs);
    s1 += multiply_chunk(start(column, 1u) + chunk, xs);
    s2 += multiply_chunk(start(column, 2u) + chunk, xs);
    s3 += multiply_chunk(start(column, 3u) + chunk, xs);
    if (TILE_COLUMNS > 4u) { s4 += multiply_chunk(start(column, 4u) + chunk, xs); }
    if (TILE_COLUMNS > 5u) { s5 += multiply_chunk(start(column, 5u) + chunk, xs); }
    if (TILE_COLUMNS > 6u) { s6 += multiply_chunk(start(column, 6u) + chunk, xs); }
    if (TILE_COLUMNS > 7u) { s7 += multiply_chunk(start(column, 7u) + chunk, xs); }
  }
  finish(column, 0u, s0, s1, lane);
  finish(column, 2u, s2, s3, lane);
  if (TILE_COLUMNS > 4u) { finish(column, 4u, s4, s5, lane); }
  if (TILE_COLUMNS > 6u) { finish(column, 6u, s6, s7, lane); }
}
alias Pack = f32;
alias PackU = u32;
const PACK: u32 = 1u;
const PACK_INDEX: u32 = 0u;

fn pack_sum(v: Pack) -> f32 {
  return v;
}

fn pack_max(v: Pack) -> f32 {
  return v;
}

fn pack_min_u32(v: PackU) -> u32 {
  return v;
}
const WEIGHT_WORDS: u32 = 4096u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
struct Chunk {
  x0: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i]);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  return load_weight4(i) * xs.x0;
}
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
fn activate(v: f32) -> f32 {
  return v;
}
fn add_residual(v: Pack, index: u32) -> Pack {
  return v;
}

// sample = sample + lib/pack_4 + lib/reduce_tree + lib/philox
const PACKS: u32 = 32u;
const ROWS: u32 = 1u;
const HISTORY: u32 = 64u;
const GRID_X: u32 = 1u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> logits: array<Pack>;
@group(0) @binding(1) var<storage, read_write> options: array<f32>;
@group(0) @binding(2) var<storage, read_write> key: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read_write> length: array<u32>;
@group(0) @binding(5) var<storage, read_write> token: array<u32>;
@group(0) @binding(6) var<storage, read_write> scores: array<Pack>;

var<workgroup> row_options: array<f32, 8>;
var<workgroup> chunk_mass: array<f32, WORKGROUP>;
struct Kept {
  bound: f32,
  count: f32,
  mass: f32,
}

fn element(v: Pack, c: u32) -> f32 {
  return pack_sum(select(Pack(0.0), v, PACK_INDEX == PackU(c)));
}

fn above(v: Pack, bound: f32) -> Pack {
  return select(Pack(0.0), v, v >= Pack(bound));
}

fn measure(base: u32, bound: f32, lane: u32) -> Kept {
  var count = Pack(0.0);
  var mass = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let v = scores[base + i];
    count += select(Pack(0.0), Pack(1.0), v >= Pack(bound));
    mass += above(v, bound);
  }
  return Kept(bound, reduce_add(pack_sum(count), lane), reduce_add(pack_sum(mass), lane));
}
fn filter_bound(base: u32, top_k: f32, top_p: f32, mass: f32, lane: u32) -> f32 {
  var low = Kept(0.0, f32(PACKS * PACK), mass);
  let first = select(0u, 1u, top_k == 0.0 || top_k >= low.count);
  let end = select(1u, 2u, top_p < 1.0);
  for (var stage = first; stage < end; stage++) {
    let least_count = select(1.0, top_k, stage == 0u);
    let least_mass = select(top_p * low.mass, 0.0, stage == 0u);
    var high = Kept(bitcast<f32>(bitcast<u32>(1.0) + 1u), 0.0, 0.0);
    while (low.count - high.count > 1.0 && bitcast<u32>(high.bound) - bitcast<u32>(low.bound) > 1u) {
      let middle = bitcast<f32>((bitcast<u32>(low.bound) + bitcast<u32>(high.bound)) / 2u);
      let kept = measure(base, middle, lane);
      if (kept.count >= least_count && kept.mass >= least_mass) {
        low = kept;
      } else {
        high = kept;
      }
    }
  }
  return low.bound;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * GRID_X;
  if (row >= ROWS) { return; }
  let base = row * PACKS;
  for (var i = lane; i < 8u; i += WORKGROUP) { row_options[i] = options[row * 8u + i]; }
  let option = workgroupUniformLoad(&row_options);
  let temperature = option[0];
  let penalty = option[4];
  for (var i = lane; i < PACKS; i += WORKGROUP) { scores[base + i] = logits[base + i]; }
  if (penalty > 0.0 && penalty != 1.0) {
    for (var h = 0u; h < min(length[row], HISTORY); h++) {
      let seen = history[row * HISTORY + h];
      let pack = seen / PACK;
      if (pack < PACKS && pack % WORKGROUP == lane) {
        let old = element(logits[base + pack], seen % PACK);
        let new_score = select(old * penalty, old / penalty, old > 0.0);
        scores[base + pack] = select(scores[base + pack], Pack(new_score), PACK_INDEX == PackU(seen % PACK));
      }
    }
  }
  var highest = Pack(-0x1.fffffep+127f);
  for (var i = lane; i < PACKS; i += WORKGROUP) { highest = max(highest, scores[base + i]); }
  let top = reduce_max(pack_max(highest), lane);

  if (temperature == 0.0) {
    var lowest = 0xffffffffu;
    for (var i = lane; i < PACKS; i += WORKGROUP) {
      let index = select(PackU(0xffffffffu), PackU(i * PACK) + PACK_INDEX, scores[base + i] == Pack(top));
      lowest = min(lowest, pack_min_u32(index));
    }
    let best = reduce_min_u32(lowest, lane);
    if (lane == 0u) { token[row] = best; }
    return;
  }
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let e = exp(max((scores[base + i] - Pack(top)) / Pack(temperature), Pack(-200.0)));
    scores[base + i] = e;
    sum += e;
  }
  let mass = reduce_add(pack_sum(sum), lane);
  let bound = max(filter_bound(base, option[1], option[2], mass, lane), min(option[3], 1.0));
  storageBarrier();
  let word = philox(vec4u(key[row * 4u + 2u], key[row * 4u + 3u], 0u, 0u), vec2u(key[row * 4u], key[row * 4u + 1u])).x;
  var first = 0u;
  var end = PACKS;
  var before = 0.0;
  var place = 0.0;
  var span = min(PACKS, arrayLength(&scores));
  var place_known = false;
  loop {
    let chunk = (span + WORKGROUP - 1u) / WORKGROUP;
    var sum = 0.0;
    let start = first + lane * chunk;
    for (var i = start; i < min(start + chunk, end); i++) { sum += pack_sum(above(scores[base + i], bound)); }
    chunk_mass[lane] = sum;
    workgroupBarrier();
    if (!place_known) {
      var total = 0.0;
      for (var k = 0u; k < WORKGROUP; k++) { total += chunk_mass[k]; }
      place = uniform_from_bits(word) * total;
      place_known = true;
    }
    var picked = 0u;
    var picked_before = before;
    var running = before;
    for (var k = 0u; k < WORKGROUP; k++) {
      let mass = chunk_mass[k];
      if (mass > 0.0 && running <= place) {
        picked = k;
        picked_before = running;
      }
      running += mass;
    }
    workgroupBarrier();
    before = picked_before;
    first += picked * chunk;
    end = min(first + chunk, end);
    span = chunk;
    if (chunk == 1u) { break; }
  }
  if (lane == 0u) {
    let masses = above(scores[base + first], bound);
    var chosen = 0u;
    var running = before;
    for (var c = 0u; c < PACK; c++) {
      let mass = element(masses, c);
      if (mass > 0.0 && running <= place) { chosen = first * PACK + c; }
      running += mass;
    }
    token[row] = chosen;
  }
}
alias Pack = vec4f;
alias PackU = vec4u;
const PACK: u32 = 4u;
const PACK_INDEX: vec4u = vec4u(0u, 1u, 2u, 3u);

fn pack_sum(v: Pack) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn pack_max(v: Pack) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn pack_min_u32(v: PackU) -> u32 {
  return min(min(v.x, v.y), min(v.z, v.w));
}
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
fn philox_high(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let low = a0 * b1 + (middle & 0xffffu);
  return a1 * b1 + (middle >> 16u) + (low >> 16u);
}

fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    c = vec4u(
      philox_high(0xcd9e8d57u, c.z) ^ c.y ^ k.x,
      0xcd9e8d57u * c.z,
      philox_high(0xd2511f53u, c.x) ^ c.w ^ k.y,
      0xd2511f53u * c.x,
    );
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
fn uniform_from_bits(bits: u32) -> f32 {
  return f32(bits >> 8u) * 0x1p-24f;
}

// tokens_read = tokens_read
const ROWS: u32 = 1u;
const BATCH: u32 = 1u;
const LENGTH: u32 = 64u;
const GRID_X: u32 = 1u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(1) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(2) var<storage, read_write> position: array<u32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (row >= ROWS) { return; }
  let s = sequence[row];
  let p = position[row];
  var id = 0u;
  if (s < BATCH && p < LENGTH) { id = tokens[s * LENGTH + p]; }
  ids[row] = id;
}

// matmul_vector_f16 = matmul_vector + lib/pack_1 + lib/weight_f16 + lib/chunk_4 + lib/reduce_tree + lib/bias_none + lib/activate_none + lib/residual_f32
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 64u;
const FIRST_COLUMN: u32 = 0u;
const UPS: u32 = 0u;
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 64u;
const GRID_X: u32 = 16u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;
fn column_of(first: u32, j: u32) -> u32 {
  return select(first + j, first + j / 2u, UPS > 0u);
}
fn start(first: u32, j: u32) -> u32 {
  return (min(column_of(first, j), COLUMNS - 1u) + j % 2u * UPS) * ROW_CHUNKS;
}

@diagnostic(off, subgroup_uniformity)
fn finish(first: u32, j: u32, sums0: vec4f, sums1: vec4f, lane: u32) {
  let sum0 = reduce_add(dot(sums0, vec4f(1.0)), lane);
  let sum1 = reduce_add(dot(sums1, vec4f(1.0)), lane);
  let column = column_of(first, j);
  if (lane != 0u || column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  let value = activate(sum0 + load_bias(column));
  if (UPS > 0u) {
    y[at] = value * (sum1 + load_bias(column + UPS));
    return;
  }
  y[at] = add_residual(value, at);
  if (column + 1u < COLUMNS) { y[at + 1u] = add_residual(activate(sum1 + load_bias(column + 1u)), at + 1u); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = column_of(0u, (group.x + group.y * GRID_X) * TILE_COLUMNS);
  if (column >= COLUMNS) { return; }
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  for (var chunk = lane; chunk < ROW_CHUNKS; chunk += WORKGROUP) {
    let xs = load_chunk(chunk);
    s0 += multiply_chunk(start(column, 0u) + chunk, xs);
    s1 += multiply_chunk(start(column, 1u) + chunk, xs);
    s2 += multiply_chunk(start(column, 2u) + chunk, xs);
    s3 += multiply_chunk(start(column, 3u) + chunk, xs);
    if (TILE_COLUMNS > 4u) { s4 += multiply_chunk(start(column, 4u) + chunk, xs); }
    if (TILE_COLUMNS > 5u) { s5 += multiply_chunk(start(column, 5u) + chunk, xs); }
    if (TILE_COLUMNS > 6u) { s6 += multiply_chunk(start(column, 6u) + chunk, xs); }
    if (TILE_COLUMNS > 7u) { s7 += multiply_chunk(start(column, 7u) + chunk, xs); }
  }
  finish(column, 0u, s0, s1, lane);
  finish(column, 2u, s2, s3, lane);
  if (TILE_COLUMNS > 4u) { finish(column, 4u, s4, s5, lane); }
  if (TILE_COLUMNS > 6u) { finish(column, 6u, s6, s7, lane); }
}
alias Pack = f32;
alias PackU = u32;
const PACK: u32 = 1u;
const PACK_INDEX: u32 = 0u;

fn pack_sum(v: Pack) -> f32 {
  return v;
}

fn pack_max(v: Pack) -> f32 {
  return v;
}

fn pack_min_u32(v: PackU) -> u32 {
  return v;
}
const WEIGHT_WORDS: u32 = 2048u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
struct Chunk {
  x0: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i]);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  return load_weight4(i) * xs.x0;
}
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
fn activate(v: f32) -> f32 {
  return v;
}
const RESIDUAL_BINDING: u32 = 3u;

@group(0) @binding(RESIDUAL_BINDING) var<storage, read_write> residual: array<Pack>;

fn add_residual(v: Pack, index: u32) -> Pack {
  return v + residual[index];
}

// matmul_vector_f16 = matmul_vector + lib/pack_1 + lib/weight_f16 + lib/chunk_4 + lib/reduce_tree + lib/bias_none + lib/activate_silu + lib/activation + lib/residual_none
const ROW_CHUNKS: u32 = 16u;
const X_WIDTH4: u32 = 16u;
const COLUMNS: u32 = 96u;
const FIRST_COLUMN: u32 = 0u;
const UPS: u32 = 96u;
const TILE_COLUMNS: u32 = 4u;
const WORKGROUP: u32 = 64u;
const GRID_X: u32 = 48u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4f, X_WIDTH4>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;
fn column_of(first: u32, j: u32) -> u32 {
  return select(first + j, first + j / 2u, UPS > 0u);
}
fn start(first: u32, j: u32) -> u32 {
  return (min(column_of(first, j), COLUMNS - 1u) + j % 2u * UPS) * ROW_CHUNKS;
}

@diagnostic(off, subgroup_uniformity)
fn finish(first: u32, j: u32, sums0: vec4f, sums1: vec4f, lane: u32) {
  let sum0 = reduce_add(dot(sums0, vec4f(1.0)), lane);
  let sum1 = reduce_add(dot(sums1, vec4f(1.0)), lane);
  let column = column_of(first, j);
  if (lane != 0u || column >= COLUMNS) { return; }
  let at = FIRST_COLUMN + column;
  let value = activate(sum0 + load_bias(column));
  if (UPS > 0u) {
    y[at] = value * (sum1 + load_bias(column + UPS));
    return;
  }
  y[at] = add_residual(value, at);
  if (column + 1u < COLUMNS) { y[at + 1u] = add_residual(activate(sum1 + load_bias(column + 1u)), at + 1u); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = column_of(0u, (group.x + group.y * GRID_X) * TILE_COLUMNS);
  if (column >= COLUMNS) { return; }
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  var s4 = vec4f();
  var s5 = vec4f();
  var s6 = vec4f();
  var s7 = vec4f();
  for (var chunk = lane; chunk < ROW_CHUNKS; chunk += WORKGROUP) {
    let xs = load_chunk(chunk);
    s0 += multiply_chunk(start(column, 0u) + chunk, xs);
    s1 += multiply_chunk(start(column, 1u) + chunk, xs);
    s2 += multiply_chunk(start(column, 2u) + chunk, xs);
    s3 += multiply_chunk(start(column, 3u) + chunk, xs);
    if (TILE_COLUMNS > 4u) { s4 += multiply_chunk(start(column, 4u) + chunk, xs); }
    if (TILE_COLUMNS > 5u) { s5 += multiply_chunk(start(column, 5u) + chunk, xs); }
    if (TILE_COLUMNS > 6u) { s6 += multiply_chunk(start(column, 6u) + chunk, xs); }
    if (TILE_COLUMNS > 7u) { s7 += multiply_chunk(start(column, 7u) + chunk, xs); }
  }
  finish(column, 0u, s0, s1, lane);
  finish(column, 2u, s2, s3, lane);
  if (TILE_COLUMNS > 4u) { finish(column, 4u, s4, s5, lane); }
  if (TILE_COLUMNS > 6u) { finish(column, 6u, s6, s7, lane); }
}
alias Pack = f32;
alias PackU = u32;
const PACK: u32 = 1u;
const PACK_INDEX: u32 = 0u;

fn pack_sum(v: Pack) -> f32 {
  return v;
}

fn pack_max(v: Pack) -> f32 {
  return v;
}

fn pack_min_u32(v: PackU) -> u32 {
  return v;
}
const WEIGHT_WORDS: u32 = 6144u;
@group(0) @binding(1) var<storage, read_write> weight: array<vec2u, WEIGHT_WORDS / 2u>;

fn load_weight4(i: u32) -> vec4f {
  let words = weight[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
struct Chunk {
  x0: vec4f,
}

fn load_chunk(i: u32) -> Chunk {
  return Chunk(x[i]);
}

fn multiply_chunk(i: u32, xs: Chunk) -> vec4f {
  return load_weight4(i) * xs.x0;
}
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
fn load_bias(column: u32) -> f32 {
  return 0.0;
}
fn activate(v: f32) -> f32 {
  return silu(v);
}
fn sigmoid_pair(x: f32) -> vec2f {
  let e = exp(clamp(-x, -87.0, 87.0));
  let s = 1.0 / (1.0 + e);
  return vec2f(s, e * s);
}

fn silu(x: f32) -> f32 {
  return x * sigmoid_pair(x).x;
}

fn silu_derivative(x: f32) -> f32 {
  let s = sigmoid_pair(x);
  return s.x * (1.0 + x * s.y);
}
const GELU_SCALE: f32 = 1.5957691216057308; // 2 sqrt(2/pi)
const GELU_CUBIC: f32 = 0.044715;
fn gelu_argument(x: f32) -> f32 {
  return clamp(x, -16.0, 16.0);
}

fn gelu_tanh(x: f32) -> f32 {
  let c = gelu_argument(x);
  return x * sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c)).x;
}

fn gelu_tanh_derivative(x: f32) -> f32 {
  let c = gelu_argument(x);
  let s = sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c));
  return s.x + s.x * (s.y * c * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * c * c));
}
fn add_residual(v: Pack, index: u32) -> Pack {
  return v;
}
