// Which expert a row belongs to, where rows are sorted by expert; a kernel binds `offsets`.
const EXPERTS: u32 = 1u;

// The expert of a row, EXPERTS if it has none. An offset below one before it counts as that one.
fn expert_of(row: u32) -> u32 {
  if (row < offsets[0]) { return EXPERTS; }
  for (var e = 0u; e < EXPERTS; e++) {
    if (row < offsets[e + 1u]) { return e; }
  }
  return EXPERTS;
}
