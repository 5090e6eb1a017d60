// Document hooks: rows attend only rows of the same document number; NO_DOCUMENT marks padding. Linked with
// documents_lanes or documents_direct, which load the numbers of rows first to first + 7.
const DOCUMENTS_BINDING: u32 = 3u;
const NO_DOCUMENT: u32 = 0xffffffffu;

@group(0) @binding(DOCUMENTS_BINDING) var<storage, read_write> documents: array<u32>;

struct Documents { low: vec4u, high: vec4u }

fn document_of(row: u32) -> u32 { return documents[row]; }

fn same_document(own: u32, others: Documents) -> Mask {
  let real = vec4<bool>(own != NO_DOCUMENT);
  return Mask(real & (others.low == vec4u(own)), real & (others.high == vec4u(own)));
}
