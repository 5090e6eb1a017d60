// Blocks of a cluster (KERNEL_CLUSTER), known by their rank: they arrive at each other's mbarriers and share copies. A
// block must not end while another may reach for its memory.
#pragma once
#include "tma.h"

#ifdef __CUDACC__
DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// A barrier of all threads of the cluster.
DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Arrives at the mbarrier in the same place of block `rank`.
DEVICE void mbarrier_arrive_at(Mbarrier& barrier, uint32_t rank) {
  asm volatile(
    "{\n"
    ".reg .b32 there;\n"
    "mapa.shared::cluster.u32 there, %0, %1;\n"
    "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
    "}" ::"r"(shared_address(&barrier)),
    "r"(rank)
    : "memory");
}

// As tma_load, into the same place of all blocks that have a bit in `ranks`; each one's barrier gets the bytes.
DEVICE void tma_load_shared(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier,
                            uint32_t ranks) {
  asm volatile(
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
    "[%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
    "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier)), "h"(static_cast<uint16_t>(ranks))
    : "memory");
}
#else
inline uint32_t cluster_rank() { return simt::runtime->cluster_rank(simt::this_thread()); }
inline void cluster_sync(simt::Site site = simt::Site::current()) {
  simt::runtime->cluster_sync(simt::this_thread(), site);
}
inline void mbarrier_arrive_at(Mbarrier& barrier, uint32_t rank, simt::Site site = simt::Site::current()) {
  simt::runtime->mbarrier_arrive(simt::this_thread(), &barrier, rank, 0, site);
}
inline void tma_load_shared(void* to, const TensorMap& map, uint32_t column, uint32_t row, Mbarrier& barrier,
                            uint32_t ranks, simt::Site site = simt::Site::current()) {
  simt::runtime->tma_load(simt::this_thread(), to, map, static_cast<int32_t>(column), static_cast<int32_t>(row),
                          &barrier, ranks, site);
}
#endif
