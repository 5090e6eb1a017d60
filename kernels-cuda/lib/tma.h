// Copies of boxes of a matrix between device memory and shared memory by the copy engine (PTX ISA,
// cp.async.bulk.tensor).
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

// Starts the copy of a box from shared memory to (column, row); elements outside the matrix are left out. Whoever has
// written the box has called fence_proxy_async before a barrier, and the box stays as it is until the thread that
// stores has waited.
DEVICE void tma_store(const TensorMap& map, uint32_t column, uint32_t row, const void* from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map), "r"(column),
               "r"(row), "r"(shared_address(from))
               : "memory");
}

// The same, added to what is there, for a matrix of f32. Several additions to one element come in any order: a launch
// makes one.
DEVICE void tma_store_add(const TensorMap& map, uint32_t column, uint32_t row, const void* from) {
  asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
               "r"(column), "r"(row), "r"(shared_address(from))
               : "memory");
}

// This thread's stores since the last commit are a group.
DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until all but the last `PENDING` of this thread's groups have read their boxes, which may then be written.
template <uint32_t PENDING>
DEVICE void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Until all but the last `PENDING` of this thread's groups have stored what they read. The end of a kernel waits too.
template <uint32_t PENDING>
DEVICE void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
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
inline void tma_store(const TensorMap& map, uint32_t column, uint32_t row, const void* from,
                      simt::Site site = simt::Site::current()) {
  simt::runtime->tma_store(simt::this_thread(), map, static_cast<int32_t>(column), static_cast<int32_t>(row), from,
                           false, site);
}
inline void tma_store_add(const TensorMap& map, uint32_t column, uint32_t row, const void* from,
                          simt::Site site = simt::Site::current()) {
  simt::runtime->tma_store(simt::this_thread(), map, static_cast<int32_t>(column), static_cast<int32_t>(row), from,
                           true, site);
}
inline void tma_store_commit() { simt::runtime->tma_store_commit(simt::this_thread()); }
template <uint32_t PENDING>
void tma_store_wait_read(simt::Site site = simt::Site::current()) {
  simt::runtime->tma_store_wait(simt::this_thread(), PENDING, true, site);
}
template <uint32_t PENDING>
void tma_store_wait(simt::Site site = simt::Site::current()) {
  simt::runtime->tma_store_wait(simt::this_thread(), PENDING, false, site);
}
inline void tma_prefetch(const TensorMap&) {}
#endif
