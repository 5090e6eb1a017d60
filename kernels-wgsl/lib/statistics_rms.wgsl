// row_statistics(base, lane): (what is subtracted from a row, what it is multiplied by), for rms_norm
// (0, 1 / sqrt(mean(x^2) + EPS)). `base` is the row's first pack in x; every lane gets the result.
const EPS: f32 = 0.00001f;

fn row_statistics(base: u32, lane: u32) -> vec2f {
  var squares = Pack(0.0);
  for (var i = lane; i < PACKS; i += WORKGROUP) {
    let v = x[base + i];
    squares += v * v;
  }
  return vec2f(0.0, inverseSqrt(reduce_add(pack_sum(squares), lane) / f32(PACKS * PACK) + EPS));
}
