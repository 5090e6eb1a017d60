// dims: number of vec4 in a head, as a literal: loops over it are unrolled and their arrays stay in registers.
fn dims() -> u32 { return DIM4; }
