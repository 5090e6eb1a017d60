// read_four(i): elements 4i to 4i+3 of x as bits of f32, here stored as f32.
@group(0) @binding(1) var<storage, read_write> x: array<u32>;

fn read_four(i: u32) -> vec4u {
  return vec4u(x[4u * i], x[4u * i + 1u], x[4u * i + 2u], x[4u * i + 3u]);
}
