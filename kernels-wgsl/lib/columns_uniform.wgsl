// TILE_ROWS4 (here at most 2) vectors of four columns of dy, one row at a time. Every invocation loads all of them;
// the address is the same in the whole workgroup.
const HELD_ROWS: u32 = 1u;

struct Held {
  c0: vec4f,
  c1: vec4f,
}

fn hold_columns(row: u32, first: u32, lane: u32) -> Held {
  let at = row * DY_WIDTH4 + FIRST_COLUMN4;
  return Held(dy[at + min(first, COLUMNS4 - 1u)], dy[at + min(first + 1u, COLUMNS4 - 1u)]);
}

fn columns_0_0(held: Held) -> vec4f { return held.c0; }
fn columns_0_1(held: Held) -> vec4f { return held.c1; }
fn columns_0_2(held: Held) -> vec4f { return vec4f(); }
fn columns_0_3(held: Held) -> vec4f { return vec4f(); }
fn columns_1_0(held: Held) -> vec4f { return vec4f(); }
fn columns_1_1(held: Held) -> vec4f { return vec4f(); }
fn columns_1_2(held: Held) -> vec4f { return vec4f(); }
fn columns_1_3(held: Held) -> vec4f { return vec4f(); }
