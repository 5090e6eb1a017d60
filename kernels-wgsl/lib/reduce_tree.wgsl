// reduce_*(v, lane): combines v over the workgroup, every lane gets the result. Here by a tree in workgroup
// memory; WORKGROUP is a power of two. workgroupUniformLoad is a barrier before and after the load, so the
// next reduction may reuse the memory.
var<workgroup> reduce_f32: array<f32, WORKGROUP>;
var<workgroup> reduce_u32: array<u32, WORKGROUP>;

fn reduce_add(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) { reduce_f32[lane] += reduce_f32[lane + step]; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_max(v: f32, lane: u32) -> f32 {
  reduce_f32[lane] = v;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) { reduce_f32[lane] = max(reduce_f32[lane], reduce_f32[lane + step]); }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_f32[0]);
}

fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  reduce_u32[lane] = v;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) { reduce_u32[lane] = min(reduce_u32[lane], reduce_u32[lane + step]); }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_u32[0]);
}
