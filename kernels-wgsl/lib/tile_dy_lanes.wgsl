// Column `column` of rows first to first + 7 of dy; one row by each lane.
alias HeldDy = vec4f;

fn hold_dy(first: u32, left: u32, column: u32, lane: u32) -> HeldDy {
  return dy[(first + min(lane, left)) * HEADS * DIM4 + column];
}

fn tile_dy(held: HeldDy) -> Tile { return spread(held); }
