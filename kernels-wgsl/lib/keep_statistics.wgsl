// keep_statistics(row, value): stores the statistics of a row for the gradient of the norm's weight; by one lane.
const STATISTICS_BINDING: u32 = 4u;

@group(0) @binding(STATISTICS_BINDING) var<storage, read_write> statistics: array<vec2f>; // mean, inverse deviation of each row

fn keep_statistics(row: u32, value: vec2f) { statistics[row] = value; }
