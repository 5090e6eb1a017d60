// kv_write: copies the keys and values of a packed projection to their slots of the paged cache, rounding to the
// cache's format. One word of the key pool and the same of the value pool per invocation.
//
// Bytes: 8 per element of k and v together read, 8 (f32), 4 (f16) or 2 (e4m3) written; no arithmetic: memory limits.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const HEAD_DIM: u32 = 8u;
const PAGES: u32 = 1u; // entries in a row of the page table
const WORDS: u32 = 4u; // words of one pool that are written, all rows together
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;
const PAGE_TOKENS: u32 = 64u;
const PADDING: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read_write> qkv: array<u32>; // bits of f32
@group(0) @binding(1) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<u32>;
@group(0) @binding(3) var<storage, read_write> page_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> sequence: array<u32>;
@group(0) @binding(5) var<storage, read_write> position: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (index >= WORDS) { return; }
  let d = (index * PER_WORD) % HEAD_DIM;
  let head = (index * PER_WORD / HEAD_DIM) % KV_HEADS;
  let row = index * PER_WORD / (HEAD_DIM * KV_HEADS);
  let owner = sequence[row];
  if (owner == PADDING) { return; }
  let place = position[row];
  let page = page_table[owner * PAGES + place / PAGE_TOKENS];
  let to = (((page * KV_HEADS + head) * PAGE_TOKENS + place % PAGE_TOKENS) * HEAD_DIM + d) / PER_WORD;
  let key = (row * (HEADS + 2u * KV_HEADS) + HEADS + head) * HEAD_DIM + d;
  k_pool[to] = kv_word(key);
  v_pool[to] = kv_word(key + KV_HEADS * HEAD_DIM);
}
