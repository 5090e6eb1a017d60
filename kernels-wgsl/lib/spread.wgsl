// Hands the values of eight lanes to all lanes. Needs subgroups of exactly eight lanes, one per workgroup: each
// lane loads one of the eight and no address is loaded twice, which is what counts on drivers that do every
// load lane by lane. subgroupBroadcast wants literal lanes, so this can't be a loop.
enable subgroups;

@diagnostic(off, subgroup_uniformity)
fn spread(v: vec4f) -> Tile {
  return Tile(
    subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u),
    subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u),
  );
}

@diagnostic(off, subgroup_uniformity)
fn spread_number(v: f32) -> Eight {
  return Eight(
    vec4f(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u)),
    vec4f(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u)),
  );
}
