// column_term(row, i) of column_partial, here dy itself (gradient of a bias).
fn column_term(row: u32, i: u32) -> Pack {
  return dy[i];
}
