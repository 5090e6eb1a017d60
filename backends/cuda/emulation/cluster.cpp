// What threads do across the blocks of a cluster, and where they wait for what runs beside them.
#include <string>
#include "block.h"

#pragma GCC visibility push(hidden)

namespace simt {

Block& Block::peer(Fiber& self, uint32_t rank, const Site& site) {
  if (rank >= cluster_->blocks.size())
    fail(self, "the cluster has " + std::to_string(cluster_->blocks.size()) + " blocks, no block " +
                 std::to_string(rank), site);
  Block* block = cluster_->blocks[rank];
  if (!block) fail(self, "block " + std::to_string(rank) + " of the cluster has ended", site);
  return *block;
}

// As for __syncthreads, threads that have exited have not arrived.
void Block::cluster_sync(Fiber& self, const Site& site) {
  const uint32_t completed = cluster_->completed;
  if (++cluster_->arrived == cluster_->blocks.size() * threads_) {
    cluster_->arrived = 0;
    cluster_->completed++;
    return resume();
  }
  do yield(self, site);
  while (cluster_->completed == completed);
  resume();
}

void Block::mbarrier_arrive(Fiber& self, const void* barrier, uint32_t rank, uint32_t bytes, const Site& site) {
  Block& to = peer(self, rank, site);
  const void* there = barrier;
  if (&to != this) check(self, async_.same_place(to.async_, barrier, there), site);
  check(self, to.async_.arrive(there, bytes), site);
}

void Block::tma_load(Fiber& self, void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier,
                     uint32_t ranks, const Site& site) {
  for (uint32_t rank = 0; ranks >> rank; rank++) {
    if ((ranks >> rank & 1) == 0) continue;
    Block& block = peer(self, rank, site);
    const void *there = to, *arrives = barrier;
    if (&block != this) {
      check(self, async_.same_place(block.async_, to, there), site);
      check(self, async_.same_place(block.async_, barrier, arrives), site);
    }
    check(self, block.tensor_memory_.overwrite(there, map.box_rows * map.box_width * map.element_bytes), site);
    check(self, block.async_.load(const_cast<void*>(there), map, column, row, arrives, block.async_), site);
  }
}

void Block::tma_load_pair(Fiber& self, void* to, const TensorMap& map, int32_t column, int32_t row,
                          const void* barrier, const Site& site) {
  Block& first = peer(self, rank_ & ~1u, site);
  const void* arrives = barrier;
  if (&first != this) check(self, async_.same_place(first.async_, barrier, arrives), site);
  check(self, tensor_memory_.overwrite(to, map.box_rows * map.box_width * map.element_bytes), site);
  check(self, async_.load(to, map, column, row, arrives, first.async_), site);
}

// Products take a while: others go on before the sums are there. The warp leaves as one, as it came.
void Block::wgmma_wait(Fiber& self, uint32_t pending, const Site& site) {
  const uint32_t target = async_.target(self.id, pending);
  do yield(self, site);
  while (!async_.multiplied(self.id, target));
  resume();
  check(self, async_.take(self.id, target), site);
  warp(self, Collective::syncwarp, 0xffffffffu, 0, 0, site);
}

void Block::give_registers(Fiber& self, uint32_t count, const Site& site) {
  const uint32_t own = registers_[self.id];
  if (count > own) fail(self, "a thread with " + std::to_string(own) + " registers keeps " + std::to_string(count), site);
  free_registers_ += own - count;
  registers_[self.id] = static_cast<uint16_t>(count);
}

void Block::take_registers(Fiber& self, uint32_t count, const Site& site) {
  const uint32_t own = registers_[self.id];
  if (count < own) fail(self, "a thread with " + std::to_string(own) + " registers takes " + std::to_string(count), site);
  while (count - own > free_registers_) yield(self, site);
  resume();
  free_registers_ -= count - own;
  registers_[self.id] = static_cast<uint16_t>(count);
}

std::string Block::check_registers() const {
  constexpr uint32_t WARPGROUP = 128;
  for (uint32_t i = 0; i < threads_; i++)
    if (registers_[i] != registers_[i / WARPGROUP * WARPGROUP])
      return "threads " + std::to_string(i / WARPGROUP * WARPGROUP) + " and " + std::to_string(i) +
             " of a warpgroup have " + std::to_string(registers_[i / WARPGROUP * WARPGROUP]) + " and " +
             std::to_string(registers_[i]) + " registers";
  return "";
}

}  // namespace simt

#pragma GCC visibility pop
