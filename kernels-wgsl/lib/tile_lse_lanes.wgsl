// lse and delta of rows first to first + 7 for one head; one row by each lane.
fn tile_lse(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  return spread_number(lse[(first + min(lane, left)) * HEADS + head]);
}

fn tile_delta(first: u32, left: u32, head: u32, lane: u32) -> Eight {
  return spread_number(delta[(first + min(lane, left)) * HEADS + head]);
}
