// Copies of bytes that lie side by side from device memory to shared memory by the copy engine (PTX ISA,
// cp.async.bulk): no registers and no threads wait for them.
#pragma once
#include "mbarrier.h"

// Starts the copy of `bytes` to `to`, which is at a multiple of 128; `from` and `bytes` are multiples of 16. One thread
// does. The bytes count for `barrier`; whoever has waited for its phase may read them.
#ifdef __CUDACC__
DEVICE void bulk_load(void* to, const void* from, uint32_t bytes, Mbarrier& barrier) {
  asm volatile(
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
    "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&barrier))
    : "memory");
}
#else
inline void bulk_load(void* to, const void* from, uint32_t bytes, Mbarrier& barrier,
                      simt::Site site = simt::Site::current()) {
  simt::TensorMap row = {};
  row.magic = simt::TensorMap::BYTES;
  row.element_bytes = 1;
  row.base = static_cast<const unsigned char*>(from);
  row.width = row.stride = row.box_width = bytes;
  row.rows = row.box_rows = 1;
  simt::runtime->tma_load(simt::this_thread(), to, row, 0, 0, &barrier, 1u << simt::own_rank(), site);
}
#endif
