// read_four(i): elements 4i to 4i+3 of x as bits of f32, here stored as e4m3, by lib/unpack_e4m3.
@group(0) @binding(1) var<storage, read_write> x: array<u32>;

fn read_four(i: u32) -> vec4u {
  let codes = vec4u(x[i]) >> vec4u(0u, 8u, 16u, 24u);
  return select(bitcast<vec4u>(e4m3_numbers(x[i])), vec4u(0x7fc00000u), (codes & vec4u(0x7fu)) == vec4u(0x7fu));
}
