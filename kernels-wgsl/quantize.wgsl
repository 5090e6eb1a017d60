// quantize: blocks of 32 f32 to a planar block format, the very bytes that src/tensor/format.ts gives. One
// invocation per two blocks, because their two f16 scales share a word.
//
// All is exact, whatever the accuracy of a driver's division: the largest magnitude is found on the bits, the scale
// is rounded in integers (scale_of), and the approximate quotient is corrected by comparing |x| with the exact
// products (q +- 1/2) * scale (at most 9 + 11 significant bits).
//
// Bytes: 4 per element read twice (memory, then cache), 1.06 or 0.56 written; about 25 operations. Memory bandwidth
// is the limit on a GPU, arithmetic on a software driver.
const BLOCKS: u32 = 2u;
const PACKS: u32 = 1u; // pairs of blocks
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4u>; // bits of f32
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

const MAGNITUDE: u32 = 0x7fffffffu;
const SIGN: u32 = 0x80000000u;

// Bits of the first element of largest magnitude of a block; +0 if there is none.
fn largest_of(block: u32) -> u32 {
  var best = 0u;
  for (var i = 0u; i < 8u; i++) {
    let four = x[block * 8u + i];
    for (var j = 0u; j < 4u; j++) {
      if ((four[j] & MAGNITUDE) > (best & MAGNITUDE)) { best = four[j]; }
    }
  }
  return best;
}

// The integer nearest to value / scale, ties to even; `bits` are the value's, `scale` is finite and not 0.
// Quotients past LIMIT + 1 come out as LIMIT + 1 or more, which the caller's clamp takes.
fn quotient(bits: u32, scale: f32) -> i32 {
  let size = abs(scale);
  let value = min(bitcast<f32>(bits & MAGNITUDE), (QUOTIENT_LIMIT + 1.0) * size);
  var q = floor(value / size + 0.5);
  let odd = (u32(q) & 1u) == 1u;
  let above = (q + 0.5) * size;
  let below = (q - 0.5) * size;
  if (value > above || (value == above && odd)) {
    q += 1.0;
  } else if (value < below || (value == below && odd)) {
    q -= 1.0;
  }
  let negative = ((bits ^ bitcast<u32>(scale)) & SIGN) != 0u;
  return select(i32(q), -i32(q), negative);
}

// Writes the block's quants, returns the f16 bits of its scale.
fn quantize_block(block: u32) -> u32 {
  let scale_bits = f16_bits(scale_of(largest_of(block)));
  let usable = (scale_bits & 0x7fffu) != 0u && (scale_bits & 0x7fffu) < 0x7c00u;
  let scale = select(1.0, bitcast<f32>(f32_bits(scale_bits)), usable);
  for (var word = 0u; word < 32u / QUANTS; word++) {
    var packed = 0u;
    for (var i = 0u; i < QUANTS; i++) {
      let element = word * QUANTS + i;
      var q = 0;
      if (usable) { q = quotient(x[block * 8u + element / 4u][element % 4u], scale); }
      packed |= encode_quant(q) << (i * (32u / QUANTS));
    }
    y[block * (32u / QUANTS) + word] = packed;
  }
  return scale_bits;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (pair >= PACKS) { return; }
  var scales = quantize_block(2u * pair);
  if (2u * pair + 1u < BLOCKS) { scales |= quantize_block(2u * pair + 1u) << 16u; }
  y[BLOCKS * (32u / QUANTS) + pair] = scales;
}
