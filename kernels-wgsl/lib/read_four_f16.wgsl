// read_four(i): elements 4i to 4i+3 of x as bits of f32, here stored as f16, by lib/unpack_f16.
@group(0) @binding(1) var<storage, read_write> x: array<u32>;

fn read_four(i: u32) -> vec4u {
  let low = x[2u * i];
  let high = x[2u * i + 1u];
  return vec4u(f32_bits(low & 0xffffu), f32_bits(low >> 16u), f32_bits(high & 0xffffu), f32_bits(high >> 16u));
}
