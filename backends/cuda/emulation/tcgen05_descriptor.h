// Fields of the descriptors of tcgen05 (PTX ISA, "Shared memory descriptor" and "Instruction descriptor"), and what
// follows from formats.
#pragma once
#include <cstdint>
#include "abi.h"

namespace simt {

// As Tcgen05Format of kernels-cuda/lib/tcgen05.h numbers them.
enum Tcgen05Format : uint32_t { F16, BF16, E4M3, MXFP8, NVFP4 };

inline uint64_t field(uint64_t descriptor, uint32_t first, uint32_t bits) {
  return descriptor >> first & ((uint64_t{1} << bits) - 1);
}

// Of a shared memory descriptor.
inline uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 0, 14)) << 4; }
inline uint32_t leading_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 16, 14)) << 4; }
inline uint32_t stride_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 32, 14)) << 4; }

// Of an instruction descriptor.
inline uint32_t rows_of(uint32_t instruction) { return static_cast<uint32_t>(field(instruction, 24, 5)) * 16; }
inline uint32_t columns_of(uint32_t instruction) { return static_cast<uint32_t>(field(instruction, 17, 6)) * 8; }
inline bool in_columns(const Tcgen05Product& product, bool is_a) {
  return field(product.instruction, is_a ? 15 : 16, 1) != 0;
}
inline uint32_t scale_byte_of(const Tcgen05Product& product, bool is_a) {
  return static_cast<uint32_t>(field(product.instruction, is_a ? 29 : 4, 2));
}

inline bool scaled(uint32_t format) { return format == MXFP8 || format == NVFP4; }
inline uint32_t depth_of(uint32_t format) { return format <= BF16 ? 16 : format == NVFP4 ? 64 : 32; }

}  // namespace simt
