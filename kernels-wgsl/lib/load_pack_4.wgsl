// load_pack(i): the i-th pack of a table, here four elements of any weight format.
fn load_pack(i: u32) -> Pack {
  return load_weight4(i);
}
