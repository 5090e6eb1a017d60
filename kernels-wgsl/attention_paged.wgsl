// attention_paged: softmax attention of query rows over their sequences in the paged cache. The query heads that
// share a key head lie side by side as items (row, head): an invocation has ROWS items in registers, a workgroup
// SPAN: as many as fit for prefill, those of one row for decode. It visits each run of rows of one sequence in turn and goes through that sequence's live
// positions eight at a time, so every lane wants the same keys at the same time; items of other runs are masked.
// Linked with lib/eight, a pool module, a tile_pool module and a softcap module.
//
// Per item and position: 4 D flops. Keys and values are read once per run and workgroup: 8 D bytes (f32) or 4 D
// (f16), so few items are limited by memory, many by arithmetic.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 4u;
const ITEMS: u32 = 1u; // rows times query heads per key head
const SPAN: u32 = 1u; // items of a workgroup, at most ROWS * WORKGROUP
const TILES: u32 = 1u; // workgroups per key head
const GROUPS: u32 = 1u;
const PAGES: u32 = 1u; // entries in a row of the page table
const SCALE: f32 = 1.0f;
const WINDOW: u32 = 0u;
const GRID_X: u32 = 65535u;
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

// Which of the eight positions from `key` on a query at `place` sees, of those from key + low to key + high.
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

// The bounds of the loops come from storage, but are the same in every lane.
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
      // Eight aligned positions never cross a page. Slots that no query sees may hold anything, even NaN.
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
        // A sequence may come back in a later run, so it is the row that counts.
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
