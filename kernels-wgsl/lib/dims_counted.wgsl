// dims: number of vec4 in a head, in a form that the compiler can't see through (qkv is never empty), so that
// loops stay loops. On CPU drivers a vec4 load is eight loads with their own bounds checks; unrolling wide heads
// takes minutes to compile.
fn dims() -> u32 { return select(DIM4, 0u, arrayLength(&qkv) == 0u); }
