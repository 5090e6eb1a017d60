// rope_kv_write: rotates the query and key heads of a packed projection in place by the table row of their position, and
// copies keys and values to their slots of the paged cache, rounding to its format. Four elements of a head per
// invocation; of the layout half those that lie half a rotation further too. Places in a head count fours.
//
// Bytes: 4 per element read and 4 of queries and keys written, 4 (f32), 2 (f16) or 1 (e4m3) to the cache. A decode step
// has one row: what it costs is the launch, of which rope and kv_write are two.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const HEAD: u32 = 2u;
const PAIRS: u32 = 4u; // pairs that are rotated of a head
const INTERLEAVED: u32 = 0u;
const PAGES: u32 = 1u; // entries in a row of the page table
const COUNT: u32 = 4u; // invocations that have work
const GRID_X: u32 = 65535u;
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

// A row's place in the cache: the four of head 0 that come first, in `first`.
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
