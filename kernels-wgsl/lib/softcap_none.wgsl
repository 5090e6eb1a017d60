// Score cap hooks when the cap is off.
fn cap(s: Eight) -> Eight { return s; }

// Derivative of the cap, from the capped score.
fn cap_slope(capped: vec4f) -> vec4f { return vec4f(1.0); }
