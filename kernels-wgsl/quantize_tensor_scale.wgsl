// The scale of a whole tensor of nvfp4, its largest magnitude / (6 * 448), in the last word of y.
//
// A word is read and one written.
const TENSOR_SCALE_WORD: u32 = 18u;

@group(0) @binding(0) var<storage, read_write> largest: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(1)
fn main() {
  y[TENSOR_SCALE_WORD] = f32_scale(largest[0], 21u, 7u);
}
