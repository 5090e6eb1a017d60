// Column `column` of rows first to first + 7 of dy, and their lse and delta for one head; every lane loads all.
struct HeldDy { at: u32, left: u32 }

fn hold_dy(first: u32, left: u32, column: u32, lane: u32) -> HeldDy {
  return HeldDy(first * HEADS * DIM4 + column, left);
}

fn tile_dy(held: HeldDy) -> Tile {
  let i = held.at + min(INDEX_LOW, vec4u(held.left)) * HEADS * DIM4;
  let j = held.at + min(INDEX_HIGH, vec4u(held.left)) * HEADS * DIM4;
  return Tile(dy[i.x], dy[i.y], dy[i.z], dy[i.w], dy[j.x], dy[j.y], dy[j.z], dy[j.w]);
}

fn tile_lse(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  let low = (first + min(INDEX_LOW, vec4u(left))) * HEADS + head;
  let high = (first + min(INDEX_HIGH, vec4u(left))) * HEADS + head;
  return Eight(vec4f(lse[low.x], lse[low.y], lse[low.z], lse[low.w]), vec4f(lse[high.x], lse[high.y], lse[high.z], lse[high.w]));
}

fn tile_delta(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  let low = (first + min(INDEX_LOW, vec4u(left))) * HEADS + head;
  let high = (first + min(INDEX_HIGH, vec4u(left))) * HEADS + head;
  return Eight(
    vec4f(delta[low.x], delta[low.y], delta[low.z], delta[low.w]),
    vec4f(delta[high.x], delta[high.y], delta[high.z], delta[high.w]),
  );
}
