// Copies of boxes of a matrix from device memory to shared memory by the copy engine (PTX ISA, cp.async.bulk.tensor).
// A TENSOR_MAP parameter holds the matrix, the box and how the box's rows lie in shared memory. With the swizzle of
// 128 bytes, the only one used, a row of a box has 128 bytes, a box begins at a multiple of 1,024, and the 16-byte
// chunk c of row r lies at place c ^ (r % 8) of the row: what lib/wgmma.h reads without bank conflicts.
#pragma once
#include "mbarrier.h"

// Starts the copy of the box whose first element is (column, row); elements outside the matrix become zero. One
// thread does. The bytes of the whole box count for `barrier`; whoever has waited for its phase may read them.
#ifdef __CUDACC__
DEVICE void tma_load(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier) {
  asm volatile(
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
    "[%4];" ::"r"(shared_address(to)),
    "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
    : "memory");
}

// Fetches the map itself ahead of its first use.
DEVICE void tma_prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
#else
inline void tma_load(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier,
                     simt::Site site = simt::Site::current()) {
  simt::runtime->tma_load(simt::this_thread(), to, map, static_cast<int32_t>(column), static_cast<int32_t>(row),
                          &barrier, 1u << simt::own_rank(), site);
}
inline void tma_prefetch(const TensorMap&) {}
#endif
