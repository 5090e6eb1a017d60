// Document hooks: rows attend only rows of the same document number; NO_DOCUMENT marks padding.
const DOCUMENTS_BINDING: u32 = 3u;
const NO_DOCUMENT: u32 = 0xffffffffu;

@group(0) @binding(DOCUMENTS_BINDING) var<storage, read_write> documents: array<u32>;

fn document_of(row: u32) -> u32 { return documents[row]; }

fn same_document(own: u32, first: u32, left: u32) -> Mask {
  let low = first + min(INDEX_LOW, vec4u(left));
  let high = first + min(INDEX_HIGH, vec4u(left));
  let real = vec4<bool>(own != NO_DOCUMENT);
  return Mask(
    real & (vec4u(documents[low.x], documents[low.y], documents[low.z], documents[low.w]) == vec4u(own)),
    real & (vec4u(documents[high.x], documents[high.y], documents[high.z], documents[high.w]) == vec4u(own)),
  );
}
