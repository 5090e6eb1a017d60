// e4m3_numbers(word): its four bytes as e4m3, exact; the codes of NaN come out as 480. Without a subnormal f32, which
// drivers may flush: a subnormal e4m3 is the rest of a normal number.
fn e4m3_numbers(word: u32) -> vec4f {
  let codes = vec4u(word) >> vec4u(0u, 8u, 16u, 24u);
  let magnitude = codes & vec4u(0x7fu);
  let subnormal = magnitude < vec4u(8u);
  let normal = magnitude | select(vec4u(0u), vec4u(8u), subnormal);
  let size = bitcast<vec4f>((normal << vec4u(20u)) + vec4u(0x3c000000u)) - select(vec4f(), vec4f(0x1p-6f), subnormal);
  return bitcast<vec4f>(bitcast<vec4u>(size) | ((codes & vec4u(0x80u)) << vec4u(24u)));
}
