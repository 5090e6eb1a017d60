// Bounds of inner loops as literals: the loops are unrolled and their arrays stay in registers.
fn dims() -> u32 { return DIM4; } // vec4 in a head
fn eight() -> u32 { return 8u; }
