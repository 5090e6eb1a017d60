// Which of the eight keys from `key` on the query in `row` (of document `own`) may attend; keys past key + left
// are not there.
fn visible(row: u32, own: u32, key: u32, left: u32, others: Documents) -> Mask {
  let low = vec4u(key) + INDEX_LOW;
  let high = vec4u(key) + INDEX_HIGH;
  var mask = same_document(own, others);
  mask.low &= INDEX_LOW <= vec4u(left);
  mask.high &= INDEX_HIGH <= vec4u(left);
  if (CAUSAL == 1u) {
    mask.low &= low <= vec4u(row);
    mask.high &= high <= vec4u(row);
  }
  if (WINDOW > 0u) {
    mask.low &= low + WINDOW > vec4u(row);
    mask.high &= high + WINDOW > vec4u(row);
  }
  return mask;
}
