// kv_write: copies the keys and values of a packed projection to their slots of the paged cache, rounding to the
// cache's format. Four elements of a key and the same of its value per invocation.
//
// Bytes: 8 per element of k and v together read, 8 (f32), 4 (f16) or 2 (e4m3) written; no arithmetic: memory limits.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const HEAD: u32 = 2u; // fours of a head
const PAGES: u32 = 1u; // entries in a row of the page table
const COUNT: u32 = 4u; // invocations that have work
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;
const PAGE_TOKENS: u32 = 64u;
const PADDING: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read_write> qkv: array<vec4u>; // bits of f32
@group(0) @binding(1) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<u32>;
@group(0) @binding(3) var<storage, read_write> page_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(5) var<storage, read_write> position: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (index >= COUNT) { return; }
  let i = index % HEAD;
  let head = (index / HEAD) % KV_HEADS;
  let row = index / (HEAD * KV_HEADS);
  let owner = sequence[row];
  if (owner == PADDING) { return; }
  let place = position[row];
  let page = page_table[owner * PAGES + place / PAGE_TOKENS];
  let to = (((page * KV_HEADS + head) * PAGE_TOKENS + place % PAGE_TOKENS) * HEAD + i) * WORDS;
  let key = (row * (HEADS + 2u * KV_HEADS) + HEADS + head) * HEAD + i;
  let k = cache_words(qkv[key]);
  let v = cache_words(qkv[key + KV_HEADS * HEAD]);
  for (var j = 0u; j < WORDS; j++) {
    k_pool[to + j] = k[j];
    v_pool[to + j] = v[j];
  }
}
