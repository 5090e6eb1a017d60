// Bounds of inner loops where eight lanes exchange keys and heads are narrow: loops with loads are counted (see
// loops_counted); loops that add to sums are unrolled, since a CPU driver reads and writes an array at an index that it
// does not know lane by lane, which took half of the time.
fn dims() -> u32 { return select(DIM4, 0u, arrayLength(&qkv) == 0u); } // vec4 in a head
fn summed_dims() -> u32 { return DIM4; }
