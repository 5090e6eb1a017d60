// row_exp_sum(base, lane): (max, sum of exp(x - max)) of a row of x, for softmax. Here in a pass for each.
fn row_exp_sum(base: u32, lane: u32) -> vec2f {
  var top = x[base + min(lane, PACKS - 1u)];
  for (var i = lane + WORKGROUP; i < PACKS; i += WORKGROUP) { top = max(top, x[base + i]); }
  let highest = reduce_max(pack_max(top), lane);
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) { sum += exp(x[base + i] - Pack(highest)); }
  return vec2f(highest, reduce_add(pack_sum(sum), lane));
}
