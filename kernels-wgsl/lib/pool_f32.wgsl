// Cache pools stored as f32: element 4 i to 4 i + 3.
@group(0) @binding(1) var<storage, read_write> k_pool: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> v_pool: array<vec4f>;

fn load_key(i: u32) -> vec4f { return k_pool[i]; }
fn load_value(i: u32) -> vec4f { return v_pool[i]; }
