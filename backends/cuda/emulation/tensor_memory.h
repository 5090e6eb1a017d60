// The tensor memory of a block, and tcgen05, which works on it beside the threads: products and copies of scales run
// in the order of the thread that issued them when somebody waits for the mbarrier that a later commit arrives at, and
// read their operands only then. Until then what they write may not be touched, nor what they read overwritten.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>
#include "async.h"

#pragma GCC visibility push(hidden)

namespace simt {

class TensorMemory {
 public:
  using Problem = Async::Problem;
  static constexpr uint32_t LANES = 128, COLUMNS = 512;

  // Of a block that may work in a pair as its second with the block whose is `first`.
  void begin(Async& async, uint32_t threads, TensorMemory* first);
  // What a block leaves taken or under way at its end.
  Problem end();

  // By one thread of the warp for all. `ctas`, here and below, as instructions have it: 1, or 2 of a pair.
  Problem allocate(uint32_t columns, uint32_t ctas, uint32_t& address);
  Problem relinquish(uint32_t ctas);
  Problem release(uint32_t address, uint32_t columns, uint32_t ctas);

  Problem load(uint32_t thread, float* to, uint32_t count, uint32_t address);
  // Gives a thread what it has loaded.
  void wait(uint32_t thread);
  Problem store(uint32_t thread, uint32_t address, const uint32_t* from, uint32_t count);
  // Brings what a thread has stored to where it stored it.
  void wait_stores(uint32_t thread);
  void fence_before(uint32_t thread);
  void fence_after(uint32_t thread);

  Problem multiply(uint32_t thread, const Tcgen05Product& product);
  Problem copy_words(uint32_t thread, uint32_t to, uint64_t words, uint32_t ctas);
  Problem commit(uint32_t thread, const void* barrier, uint32_t ctas);
  // Does what the barrier waits for, and arrives at it.
  Problem complete(const void* barrier);
  // Whether bytes of the shared memory are still to be read, so that no copy may overwrite them.
  Problem overwrite(const void* to, uint32_t bytes) const;

 private:
  struct Columns {
    uint32_t first, count;
    bool overlap(const Columns& other) const {
      return first < other.first + other.count && other.first < first + count;
    }
  };
  // Rows of 16 or 128 bytes in the shared memory, every eight of them `stride` and every `box_rows` `leading` apart.
  struct Operand {
    uint32_t address, rows, row_bytes, stride, box_rows, leading;
    uint32_t row(uint32_t r) const {
      return address + r / box_rows * leading + r % box_rows / 8 * stride + r % 8 * row_bytes;
    }
    bool overlaps(uint32_t from, uint32_t bytes) const;
  };
  enum class Kind { product, copy, commit };
  struct Operation {
    Kind kind;
    uint32_t thread;
    Tcgen05Product product;
    const void* barrier;
    Columns writes;
    std::vector<Columns> columns;  // scales, or the left operand
    std::vector<Operand> reads;
  };
  struct Load {
    float* to;
    uint32_t lane;
    Columns columns;
  };
  struct Store {
    std::vector<uint32_t> words;
    uint32_t lane;
    Columns columns;
  };
  // Loads and stores not waited for, and columns loaded or stored since it last told others by a fence.
  struct ThreadState {
    uint64_t after = 0;  // when it last fenced
    std::vector<Load> loads;
    std::vector<Store> stores;
    std::vector<Columns> loaded, stored;
  };
  using Cells = std::array<std::array<uint32_t, COLUMNS>, LANES>;

  // Who issues something, and when it last fenced.
  struct Issuer {
    const TensorMemory* memory;
    uint32_t thread;
    uint64_t after;
    bool is(const TensorMemory& other, uint32_t number) const { return memory == &other && thread == number; }
  };

  // Whether an instruction may be for so many blocks.
  Problem use(uint32_t ctas);
  // Blocks of a pair have one time.
  uint64_t tick() { return ++(second_ && other_ ? other_->clock_ : clock_); }
  template <class Prepare>
  Problem issue(uint32_t thread, uint32_t ctas, const Prepare& prepare);
  Problem prepare(const Tcgen05Product& product, const Issuer& by, Operation& operation) const;
  Problem check_free(const Issuer& by, const Columns& writes) const;
  // Columns of the thread's lane that it may load, or store to.
  Problem check_own(uint32_t thread, uint32_t address, uint32_t count, Columns& columns) const;
  Problem check_range(uint32_t address, uint32_t count, Columns& columns) const;
  Problem check_written(uint32_t thread, const Columns& columns) const;
  static Operand operand_of(const Tcgen05Product& product, bool is_a);
  Problem check_operand(const Tcgen05Product& product, bool is_a, Operand& operand) const;
  // What threads have stored, of columns that a product reads.
  Problem check_stored(const Issuer& by, const Columns& columns) const;
  Problem check_stores(uint32_t thread, const Columns& columns, bool own) const;
  Problem check_readable(const Operand& operand) const;
  Problem complete_first(size_t count);
  Problem execute(const Operation& operation, uint64_t now);
  Problem execute_product(const Tcgen05Product& product);
  Problem scale_word(uint32_t scales, uint32_t row, uint32_t& word) const;
  // to[k][m or n], with scales
  Problem decode(const Tcgen05Product& product, bool is_a, std::vector<float>& to) const;
  // The part of an operand that the block has, in rows of `pitch`.
  Problem decode_rows(const Tcgen05Product& product, bool is_a, float* to, uint32_t pitch) const;
  Problem decode_columns(const Tcgen05Product& product, bool is_a, float* to, uint32_t pitch) const;
  Problem scale(const Tcgen05Product& product, bool is_a, std::vector<float>& to, uint32_t rows) const;
  void decode_words(const Tcgen05Product& product, std::vector<float>& to) const;

  Async* async_ = nullptr;
  // The other block of a pair, which only a cluster has, and whether this one is the second; 0 before first use.
  TensorMemory* other_ = nullptr;
  bool second_ = false;
  uint32_t ctas_ = 0;
  std::unique_ptr<Cells> cells_;
  std::vector<Columns> allocated_;
  bool relinquished_ = false;
  uint64_t clock_ = 0;
  // When the last operation was done that wrote a column, or read it, and when a thread last told that it had loaded
  // or stored it, or stored it.
  std::array<uint64_t, COLUMNS> done_, read_, told_, told_stored_;
  std::vector<Operation> operations_;
  std::vector<ThreadState> threads_;
};

}  // namespace simt

#pragma GCC visibility pop
