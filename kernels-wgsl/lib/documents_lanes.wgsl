// Document numbers of rows first to first + 7, never past first + left; one loaded by each lane.
@diagnostic(off, subgroup_uniformity)
fn documents_of(first: u32, left: u32, lane: u32) -> Documents {
  let one = documents[first + min(lane, left)];
  return Documents(
    vec4u(subgroupBroadcast(one, 0u), subgroupBroadcast(one, 1u), subgroupBroadcast(one, 2u), subgroupBroadcast(one, 3u)),
    vec4u(subgroupBroadcast(one, 4u), subgroupBroadcast(one, 5u), subgroupBroadcast(one, 6u), subgroupBroadcast(one, 7u)),
  );
}
