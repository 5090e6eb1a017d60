// attention_backward, second launch where the first kept its p and ds (lib/kept_weights): dk = scale sum_t ds q and
// dv = sum_t p dy over the query rows t that see a key, for all query heads of its group, in the order of
// attention_backward_key.
//
// Per key and query: 4 D flops and 8 bytes of weights, written before, instead of the 8 D flops of attention_backward_key
// and its second pass over q and dy. Where every lane loads all of eight rows (SwiftShader), these loads are what counts,
// and half of them go. Estimated from the rates that profile measures (two cores, head of 32): 16 bytes written and read
// take 2 ns at the 8 GB/s of a cache, 6 ns at the 2.5 GB/s of the memory behind it; 4 D flops there some 30 ns, where
// lanes exchange rows (lavapipe) 5 ns: no gain there.
const HEADS: u32 = 1u;
const KV_HEADS: u32 = 1u;
const DIM4: u32 = 4u;
const SEQUENCE: u32 = 8u;
const TILES: u32 = 1u; // workgroups per block and key head
const GROUPS: u32 = 1u;
const CAUSAL: u32 = 1u;
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 8u;
const ROWS: u32 = 1u;
const PITCH4: u32 = 2u; // vectors in a row of keys
const QKV4: u32 = (HEADS + 2u * KV_HEADS) * DIM4;
const SHARING: u32 = HEADS / KV_HEADS; // query heads per key head

@group(0) @binding(0) var<storage, read_write> dy: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> dqkv: array<vec4f>;

const STRIDE: u32 = HEADS * 8u * PITCH4; // numbers from one query to the next

// Weights of eight queries for one key, zero where the query is past the end or may not attend: of other masked places
// the first launch has written zeros.
fn kept(at: u32, left: u32, mask: Mask) -> Eight {
  let low = vec4f(
    weights[at],
    weights[at + min(1u, left) * STRIDE],
    weights[at + min(2u, left) * STRIDE],
    weights[at + min(3u, left) * STRIDE],
  );
  let high = vec4f(
    weights[at + min(4u, left) * STRIDE],
    weights[at + min(5u, left) * STRIDE],
    weights[at + min(6u, left) * STRIDE],
    weights[at + min(7u, left) * STRIDE],
  );
  return eight_select(0.0, Eight(low, high), mask);
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
  var dk: array<vec4f, ROWS * DIM4>;
  var dv: array<vec4f, ROWS * DIM4>;
  for (var r = 0u; r < ROWS; r++) {
    row[r] = min(first + r * WORKGROUP + lane, last);
    for (var d = 0u; d < dims(); d++) {
      dk[r * DIM4 + d] = vec4f();
      dv[r * DIM4 + d] = vec4f();
    }
  }

  let begin = select(start, first, CAUSAL == 1u);
  let end = start + SEQUENCE;
  for (var head = key_head * SHARING; head < (key_head + 1u) * SHARING; head++) {
    for (var query = begin; query < end; query += 8u) {
      let left = end - 1u - query;
      var p: array<Eight, ROWS>;
      var ds: array<Eight, ROWS>;
      for (var r = 0u; r < ROWS; r++) {
        var mask = Mask(INDEX_LOW <= vec4u(left), INDEX_HIGH <= vec4u(left));
        if (CAUSAL == 1u) {
          mask.low &= vec4u(query) + INDEX_LOW >= vec4u(row[r]);
          mask.high &= vec4u(query) + INDEX_HIGH >= vec4u(row[r]);
        }
        let at = (query * HEADS + head) * 8u * PITCH4 + row[r] - start;
        p[r] = kept(at, left, mask);
        ds[r] = kept(at + 4u * PITCH4, left, mask);
      }
      for (var d = 0u; d < dims(); d++) {
        let q = tile_qkv(hold_qkv(query, left, head * DIM4 + d, lane));
        let g = tile_dy(hold_dy(query, left, head * DIM4 + d, lane));
        for (var r = 0u; r < ROWS; r++) {
          dk[r * DIM4 + d] = add_weighted(dk[r * DIM4 + d], ds[r], q);
          dv[r * DIM4 + d] = add_weighted(dv[r * DIM4 + d], p[r], g);
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
