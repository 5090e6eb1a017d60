// Score cap hooks: SOFTCAP * tanh(s / SOFTCAP). tanh by exp, since the builtin is hundreds of ulp off on some
// drivers; past |x| = 10 the result is 1 in f32.
const SOFTCAP: f32 = 1.0f;

fn cap4(s: vec4f) -> vec4f {
  let x = clamp(s * (1.0 / SOFTCAP), vec4f(-10.0), vec4f(10.0));
  return SOFTCAP * (1.0 - 2.0 / (exp(2.0 * x) + 1.0));
}

fn cap(s: Eight) -> Eight { return Eight(cap4(s.low), cap4(s.high)); }

// Derivative of the cap, from the capped score: 1 - tanh^2.
fn cap_slope(capped: vec4f) -> vec4f {
  let t = capped * (1.0 / SOFTCAP);
  return 1.0 - t * t;
}
