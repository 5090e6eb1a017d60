// column_term(row, i) of column_partial, here dy times the normalised x (gradient of a norm's weight).
@group(0) @binding(2) var<storage, read_write> x: array<Pack>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2f>; // mean, inverse deviation of each row

fn column_term(row: u32, i: u32) -> Pack {
  let own = statistics[row];
  return dy[i] * ((x[i] - Pack(own.x)) * own.y);
}
