// quantize: blocks of f32 to a planar block format, the very bytes that src/tensor/block_format.ts gives. One invocation
// per blocks whose scales share a word.
//
// All is exact, whatever the accuracy of a driver's division: the largest magnitude is found on the bits, and scales and
// quants are rounded in integers or corrected by exact products.
//
// Bytes: 4 per element read twice (memory, then cache), 1.06 to 0.56 written; about 25 operations. Memory bandwidth
// is the limit on a GPU, arithmetic on a software driver.
const BLOCKS: u32 = 2u;
const BLOCK_SIZE: u32 = 32u;
const SCALES_WORD: u32 = 16u;
const PACKS: u32 = 1u; // words of scales
const GRID_X: u32 = 65535u;
const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<vec4u>; // bits of f32
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

const MAGNITUDE: u32 = 0x7fffffffu;
const SIGN: u32 = 0x80000000u;

// Fours of elements in a block, in a form that the compiler can't see through (x is never empty), so that loops stay
// loops: unrolled, blocks of 128 take software drivers seconds to compile.
fn fours() -> u32 { return select(BLOCK_SIZE / 4u, 0u, arrayLength(&x) == 0u); }

// Bits of the first element of largest magnitude of a block; +0 if there is none.
fn largest_of(block: u32) -> u32 {
  var best = 0u;
  for (var i = 0u; i < fours(); i++) {
    let four = x[block * (BLOCK_SIZE / 4u) + i];
    for (var j = 0u; j < 4u; j++) {
      if ((four[j] & MAGNITUDE) > (best & MAGNITUDE)) { best = four[j]; }
    }
  }
  return best;
}

// Writes the block's quants, returns what is stored of its scale.
fn quantize_block(block: u32) -> u32 {
  const IN_WORD = QUANTS / 4u; // fours
  const BITS = vec4u(0u, 1u, 2u, 3u) * (32u / QUANTS);
  let code = scale_code(largest_of(block));
  let divisor = divisor_of(code);
  for (var word = 0u; word < fours() / IN_WORD; word++) {
    var packed = 0u;
    for (var i = 0u; i < IN_WORD; i++) {
      let quants = encode_four(x[block * (BLOCK_SIZE / 4u) + word * IN_WORD + i], divisor) << BITS;
      packed |= (quants.x | quants.y | quants.z | quants.w) << (i * 16u);
    }
    y[block * (BLOCK_SIZE / QUANTS) + word] = packed;
  }
  return code;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let word = (group.x + group.y * GRID_X) * WORKGROUP + lane;
  if (word >= PACKS) { return; }
  var scales = 0u;
  for (var i = 0u; i < min(SCALES_IN_WORD, BLOCKS - word * SCALES_IN_WORD); i++) {
    scales |= quantize_block(word * SCALES_IN_WORD + i) << (i * (32u / SCALES_IN_WORD));
  }
  y[SCALES_WORD + word] = scales;
}
