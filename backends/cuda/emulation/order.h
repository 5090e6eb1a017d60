// The order that threads, blocks and independent graph nodes run in. CUDA promises none, so a result that depends on
// it shows a missing barrier or dependency.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#pragma GCC visibility push(hidden)

namespace simt {

// A small generator (SplitMix64): equal seeds give equal orders on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(next()) * bound >> 64);
  }

 private:
  uint64_t state_;
};

struct Order {
  enum Pattern { forward, reverse, shuffle } pattern = forward;
  uint64_t seed = 0;
};

// Reads "forward", "reverse" or "shuffle:<seed>".
std::optional<Order> parse_order(std::string_view text);

// The order of threads and blocks: EXACTMAP_EMULATED_ORDER until it is set.
Order thread_order();
void set_thread_order(Order order);

// A permutation of 0 .. count - 1 that takes no memory: positions are blocks of a grid.
class Permutation {
 public:
  Permutation(Order order, uint64_t count);
  uint64_t operator()(uint64_t position) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(position) * factor_ + offset_) % count_);
  }

 private:
  uint64_t count_, factor_ = 1, offset_ = 0;
};

}  // namespace simt

#pragma GCC visibility pop
