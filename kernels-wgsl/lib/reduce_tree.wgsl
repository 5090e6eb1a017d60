// reduce_*(v, lane): combines v over the workgroup, every lane gets the result. Here through workgroup memory in
// two levels, WORKGROUP (a multiple of 16) to 16 to 1: four barriers, where a binary tree over 256 lanes has ten,
// and barriers are what a software driver is slow at, both to run and to compile. workgroupUniformLoad is a
// barrier before and after the load, so the next reduction may reuse the memory.
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { sum += reduce_f32[k]; }
    reduce_f32[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { sum += reduce_f32[k]; }
    reduce_f32[0] = sum;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var highest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[lane] = highest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var highest = reduce_f32[0];
    for (var k = 1u; k < 16u; k++) { highest = max(highest, reduce_f32[k]); }
    reduce_f32[0] = highest;
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  if (lane < 16u) {
    var lowest = v;
    for (var k = lane + 16u; k < WORKGROUP; k += 16u) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[lane] = lowest;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var lowest = reduce_u32[0];
    for (var k = 1u; k < 16u; k++) { lowest = min(lowest, reduce_u32[k]); }
    reduce_u32[0] = lowest;
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
