// Bounds of inner loops in a form that the compiler can't see through (qkv is never empty), so that loops stay
// loops. On CPU drivers a vec4 load is eight loads with bounds checks of their own: unrolled, wide heads and tiles
// that every lane loads alone take minutes to compile.
fn dims() -> u32 { return select(DIM4, 0u, arrayLength(&qkv) == 0u); } // vec4 in a head
fn eight() -> u32 { return select(8u, 0u, arrayLength(&qkv) == 0u); }
