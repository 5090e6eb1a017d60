// row_statistics(base, lane): (what is subtracted from a row, what it is multiplied by), for layer_norm
// (mean(x), 1 / sqrt(mean((x - mean)^2) + EPS)). The squares are taken in a second pass: their sum minus the
// squared mean would lose every digit where the mean is large. `base` is the row's first pack in x; every lane
// gets the result.
const EPS: f32 = 0.00001f;

fn row_statistics(base: u32, lane: u32) -> vec2f {
  var sum = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) { sum += x[base + i]; }
  let mean = reduce_add(pack_sum(sum), lane) / f32(PACKS * PACK);
  var squares = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let v = x[base + i] - Pack(mean);
    squares += v * v;
  }
  return vec2f(mean, inverseSqrt(reduce_add(pack_sum(squares), lane) / f32(PACKS * PACK) + EPS));
}
