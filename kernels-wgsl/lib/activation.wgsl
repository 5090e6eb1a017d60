// Activation functions and their derivatives, on one f32. Built on exp alone: WGSL bounds exp by 3 + 2|x| ulp,
// while the builtin tanh is hundreds of ulp off on some drivers.

// (s, 1 - s) with s = 1 / (1 + e^-x), both to full relative accuracy: 1 - s is formed without a subtraction.
// The clamp keeps exp finite; past it one of the two is below 2^-125 and the other is 1.
fn sigmoid_pair(x: f32) -> vec2f {
  let e = exp(clamp(-x, -87.0, 87.0));
  let s = 1.0 / (1.0 + e);
  return vec2f(s, e * s);
}

fn silu(x: f32) -> f32 {
  return x * sigmoid_pair(x).x;
}

fn silu_derivative(x: f32) -> f32 {
  let s = sigmoid_pair(x);
  return s.x * (1.0 + x * s.y);
}

// The tanh form of gelu is x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), since 1 + tanh(u) = 2 sigmoid(2 u):
// no cancellation for negative x, where 1 + tanh(u) would lose every digit.
const GELU_SCALE: f32 = 1.5957691216057308; // 2 sqrt(2/pi)
const GELU_CUBIC: f32 = 0.044715;

// Keeps the cube finite: past |x| = 16 the sigmoid is 0 or 1 in f32.
fn gelu_argument(x: f32) -> f32 {
  return clamp(x, -16.0, 16.0);
}

fn gelu_tanh(x: f32) -> f32 {
  let c = gelu_argument(x);
  return x * sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c)).x;
}

fn gelu_tanh_derivative(x: f32) -> f32 {
  let c = gelu_argument(x);
  let s = sigmoid_pair(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c));
  return s.x + s.x * (s.y * c * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * c * c));
}
