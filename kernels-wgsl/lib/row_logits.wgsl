// Of a row of `logits` that starts at pack `base`: row_lse is log sum exp over it, by all lanes; row_logit the logit
// of a column, which is clamped to the row.
fn row_lse(base: u32, lane: u32) -> f32 {
  var highest = logits[base + min(lane, PACKS - 1u)];
  for (var i = lane + WORKGROUP; i < PACKS; i += WORKGROUP) { highest = max(highest, logits[base + i]); }
  let top = reduce_max(pack_max(highest), lane);
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) { sum += exp(logits[base + i] - Pack(top)); }
  return top + log(reduce_add(pack_sum(sum), lane));
}

fn row_logit(base: u32, column: u32) -> f32 {
  let label = min(column, PACKS * PACK - 1u);
  let chosen = logits[base + label / PACK];
  return pack_sum(select(Pack(0.0), chosen, PACK_INDEX == PackU(label % PACK)));
}
