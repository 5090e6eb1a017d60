// lse and delta of rows first to first + 7 for one head; every lane loads all.
fn tile_lse(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  var t: array<f32, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = lse[(first + min(j, left)) * HEADS + head]; }
  return Eight(vec4f(t[0], t[1], t[2], t[3]), vec4f(t[4], t[5], t[6], t[7]));
}

fn tile_delta(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  var t: array<f32, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = delta[(first + min(j, left)) * HEADS + head]; }
  return Eight(vec4f(t[0], t[1], t[2], t[3]), vec4f(t[4], t[5], t[6], t[7]));
}
