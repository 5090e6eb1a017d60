// Activation functions and their derivatives, on one f32. Built on exp alone: WGSL bounds exp by 3 + 2|x| ulp,
// while the builtin tanh is hundreds of ulp off on some drivers.

// 1 / (1 + e^-x). The clamp keeps exp finite; past it the result is below 2^-126 or is 1.
fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(clamp(-x, -87.0, 87.0)));
}

fn silu(x: f32) -> f32 {
  return x * sigmoid(x);
}

fn silu_derivative(x: f32) -> f32 {
  let s = sigmoid(x);
  return s * (1.0 + x * (1.0 - s));
}

// The tanh form of gelu is x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), since 1 + tanh(u) = 2 sigmoid(2 u):
// no cancellation for negative x, where 1 + tanh(u) would lose every digit.
const GELU_SCALE: f32 = 1.5957691216057308; // 2 sqrt(2/pi)
const GELU_CUBIC: f32 = 0.044715;

// The clamp keeps the cube finite: past |x| = 16 the sigmoid is 0 or 1 in f32.
fn gelu_gate(x: f32) -> f32 {
  let c = clamp(x, -16.0, 16.0);
  return sigmoid(GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c));
}

fn gelu_tanh(x: f32) -> f32 {
  return x * gelu_gate(x);
}

fn gelu_tanh_derivative(x: f32) -> f32 {
  let c = clamp(x, -16.0, 16.0);
  let s = gelu_gate(c);
  return s + c * s * (1.0 - s) * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * c * c);
}
