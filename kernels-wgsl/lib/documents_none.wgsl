// Document hooks when a call has no document numbers: every row may attend every row.
alias Documents = u32;

fn document_of(row: u32) -> u32 { return 0u; }

fn documents_of(first: u32, left: u32, lane: u32) -> Documents { return 0u; }

fn same_document(own: u32, others: Documents) -> Mask {
  return Mask(vec4<bool>(true), vec4<bool>(true));
}
