// row_exp_sum(base, lane): (max, sum of exp(x - max)) of a row of x, for softmax. Here in one pass, for rows of at least
// four packs a lane: what was summed is scaled down when a larger element comes, once per four packs.
//
// Errors stay within the chain of C / 4 additions that contracts allow a sum over C elements: with four lanes, the fewest
// there are, C / 64 steps of 10 roundings (exp, product, three additions), since those errors of exp that grow with its
// argument add up to those of the one exp that they replace. The rest takes three steps of 8, the join of the lanes 12
// (four lanes) to 27 (64): less than the 3 C / 32 + 32 that are left.
const LOWEST: f32 = -0x1.fffffep+127f;
const FOURS: u32 = PACKS / (4u * WORKGROUP) * (4u * WORKGROUP); // packs that fill steps of all lanes

fn row_exp_sum(base: u32, lane: u32) -> vec2f {
  var top = Pack(LOWEST);
  var sum = Pack(0.0);
  for (var i = lane; i < FOURS; i += 4u * WORKGROUP) {
    let a = x[base + i];
    let b = x[base + i + WORKGROUP];
    let c = x[base + i + 2u * WORKGROUP];
    let d = x[base + i + 3u * WORKGROUP];
    let next = max(max(top, max(a, b)), max(c, d));
    sum = sum * exp(top - next) + ((exp(a - next) + exp(b - next)) + (exp(c - next) + exp(d - next)));
    top = next;
  }
  if (FOURS < PACKS) {
    for (var i = FOURS + lane; i < PACKS; i += WORKGROUP) {
      let a = x[base + i];
      let next = max(top, a);
      sum = sum * exp(top - next) + exp(a - next);
      top = next;
    }
  }
  let highest = reduce_max(pack_max(top), lane);
  return vec2f(highest, reduce_add(pack_sum(sum * exp(top - Pack(highest))), lane));
}
