// A tile of eight keys (or queries): the score kernels of attention go through the other side eight at a time.

// One number for each of the eight.
struct Eight { low: vec4f, high: vec4f }

// One vec4 for each of the eight.
struct Tile { a: vec4f, b: vec4f, c: vec4f, d: vec4f, e: vec4f, f: vec4f, g: vec4f, h: vec4f }

// One yes or no for each of the eight.
struct Mask { low: vec4<bool>, high: vec4<bool> }

fn add_dots(s: Eight, x: vec4f, t: Tile) -> Eight {
  return Eight(
    s.low + vec4f(dot(x, t.a), dot(x, t.b), dot(x, t.c), dot(x, t.d)),
    s.high + vec4f(dot(x, t.e), dot(x, t.f), dot(x, t.g), dot(x, t.h)),
  );
}

// sum + the tile's vectors times their weights
fn add_weighted(sum: vec4f, w: Eight, t: Tile) -> vec4f {
  var s = sum;
  s += w.low.x * t.a;
  s += w.low.y * t.b;
  s += w.low.z * t.c;
  s += w.low.w * t.d;
  s += w.high.x * t.e;
  s += w.high.y * t.f;
  s += w.high.z * t.g;
  s += w.high.w * t.h;
  return s;
}

fn largest(s: Eight) -> f32 {
  let m = max(s.low, s.high);
  return max(max(m.x, m.y), max(m.z, m.w));
}

fn sum_of(s: Eight) -> f32 {
  let p = s.low + s.high;
  return (p.x + p.y) + (p.z + p.w);
}

fn eight_select(no: f32, s: Eight, yes: Mask) -> Eight {
  return Eight(select(vec4f(no), s.low, yes.low), select(vec4f(no), s.high, yes.high));
}

// exp(s - top), zero where masked
fn weights_of(s: Eight, top: f32, yes: Mask) -> Eight {
  return eight_select(0.0, Eight(exp(s.low - top), exp(s.high - top)), yes);
}

const INDEX_LOW: vec4u = vec4u(0u, 1u, 2u, 3u);
const INDEX_HIGH: vec4u = vec4u(4u, 5u, 6u, 7u);
