// row_of(id): the table begins with id first[0]; ids below it wrap round to what no table has.
const FIRST_BINDING: u32 = 3u;

@group(0) @binding(FIRST_BINDING) var<storage, read_write> first: array<u32>;

fn row_of(id: u32) -> u32 { return id - first[0]; }
