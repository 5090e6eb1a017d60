// Document numbers of rows first to first + 7, never past first + left; every lane loads all.
fn documents_of(first: u32, left: u32, lane: u32) -> Documents {
  var t: array<u32, 8>;
  for (var j = 0u; j < eight(); j++) { t[j] = documents[first + min(j, left)]; }
  return Documents(vec4u(t[0], t[1], t[2], t[3]), vec4u(t[4], t[5], t[6], t[7]));
}
