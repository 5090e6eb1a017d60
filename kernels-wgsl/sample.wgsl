// sample: one token per row of logits, one workgroup per row; see src/ops/sample.ts for the definition.
//
// No sort: with e = exp((logit - max) / temperature) in scratch, "the k most probable" and "the fewest that
// reach mass p" are each a threshold on e, found by bisection on its bits (e lies in [0, 1], where the bits of a
// float order like its value). A search ends when one distinct candidate is left, so it takes about
// log2(V) + a few passes, 30 at most.
//
// Bytes: 4 V from memory, 4 V through L2 per pass: 3 passes + one search of about 12 for each of top_k and
// top_p that is on + 1 for the draw. At V = 128k, 20 passes are 10 MB through one workgroup: latency of L2
// loads is the limit, 0.1 to 0.3 ms on a GPU; on a software driver the loads (V / 4 per pass).
const PACKS: u32 = 16u;
const ROWS: u32 = 1u;
const HISTORY: u32 = 1u;
const GRID_X: u32 = 65535u;
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

// The tokens with e >= bound: how many, and their sum of e.
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
  // Counts stay below 2^24, so they are exact in f32.
  return Kept(bound, reduce_add(pack_sum(count), lane), reduce_add(pack_sum(mass), lane));
}

// The bound after top_k and top_p, where `mass` is the sum of all e. Each is the largest bound that keeps enough:
// top_k tokens, then top_p of the mass that top_k left.
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

  // Pack i belongs to lane i % WORKGROUP until the draw, so that no pass waits for another lane's stores.
  for (var i = lane; i < PACKS; i += WORKGROUP) { scores[base + i] = logits[base + i]; }
  if (penalty > 0.0 && penalty != 1.0) {
    for (var h = 0u; h < min(length[row], HISTORY); h++) {
      let seen = history[row * HISTORY + h];
      let pack = seen / PACK;
      if (pack < PACKS && pack % WORKGROUP == lane) {
        // From logits, not from scores: a token that occurs twice is penalised once.
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

  // Below exp(-200) nothing is left in f32; the clamp keeps exp inside the range WGSL defines.
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let e = exp(max((scores[base + i] - Pack(top)) / Pack(temperature), Pack(-200.0)));
    scores[base + i] = e;
    sum += e;
  }
  let mass = reduce_add(pack_sum(sum), lane);
  let bound = max(filter_bound(base, option[1], option[2], mass, lane), min(option[3], 1.0));

  // The draw: where the cumulative sum in index order first exceeds u * total. The row is cut into one chunk
  // per lane; the chunk that holds the place is cut again, until it is one pack.
  storageBarrier();
  let word = philox(vec4u(key[row * 4u + 2u], key[row * 4u + 3u], 0u, 0u), vec2u(key[row * 4u], key[row * 4u + 1u])).x;
  var first = 0u;
  var end = PACKS;
  var before = 0.0;
  var place = 0.0;
  // Always PACKS, but not known to the compiler: unrolled with all it contains, this loop takes a software driver
  // as long to compile as the rest of the kernel.
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
    // Roundings may leave the place at or after the end of the last chunk: then it is the last one with mass.
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
