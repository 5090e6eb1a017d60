// What the second launch of attention_backward gets from the first: here delta, from which it computes the weights again.
@group(0) @binding(5) var<storage, read_write> delta: array<f32>;

fn keep_tile(row: u32, head: u32, place: u32, p: Eight, ds: Eight) {}

fn keep_delta(row: u32, head: u32, value: f32) { delta[row * HEADS + head] = value; }
