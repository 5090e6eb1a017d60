// reduce_*(v, lane): combines v over the workgroup, every lane gets the result. Here the workgroup is exactly
// one subgroup (WORKGROUP = subgroup size), so no barrier is needed. The callers' control flow is uniform in
// fact, but WGSL's analysis can't see that for values that came out of a subgroup operation.
enable subgroups;

@diagnostic(off, subgroup_uniformity)
fn reduce_add(v: f32, lane: u32) -> f32 {
  return subgroupAdd(v);
}

@diagnostic(off, subgroup_uniformity)
fn reduce_max(v: f32, lane: u32) -> f32 {
  return subgroupMax(v);
}

@diagnostic(off, subgroup_uniformity)
fn reduce_min_u32(v: u32, lane: u32) -> u32 {
  return subgroupMin(v);
}
