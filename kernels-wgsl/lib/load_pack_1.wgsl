// load_pack(i): the i-th pack of a table, here one element, for widths that are not a multiple of four.
fn load_pack(i: u32) -> Pack {
  return load_vector(i);
}
