// Cache pools stored as f16: element 4 i to 4 i + 3.
@group(0) @binding(1) var<storage, read_write> k_pool: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<vec2u>;

fn load_key(i: u32) -> vec4f {
  let words = k_pool[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn load_value(i: u32) -> vec4f {
  let words = v_pool[i];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
