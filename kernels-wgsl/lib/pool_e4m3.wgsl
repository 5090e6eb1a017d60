// Cache pools stored as e4m3, by lib/unpack_e4m3: element 4 i to 4 i + 3.
@group(0) @binding(1) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<u32>;

fn load_key(i: u32) -> vec4f { return e4m3_numbers(k_pool[i]); }
fn load_value(i: u32) -> vec4f { return e4m3_numbers(v_pool[i]); }
