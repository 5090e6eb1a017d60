// load_weight4(i): elements 4i to 4i+3 of a row-major weight matrix, here stored as f32.
@group(0) @binding(1) var<storage, read_write> weight: array<vec4f>;

fn load_weight4(i: u32) -> vec4f {
  return weight[i];
}
