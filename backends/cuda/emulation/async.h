// What runs beside the threads of a block: the barriers that count bytes, the copies that they wait for, and products
// of warpgroups. Everything comes as late as the programming model lets it: a copy when some thread waits for its
// barrier, in the order of the launch; sums when a warpgroup waits for them. Until then there is poison, and using
// what is under way ends the launch.
#pragma once
#include <array>
#include <string>
#include <vector>
#include "fiber.h"
#include "order.h"

#pragma GCC visibility push(hidden)

namespace simt {

class Async {
 public:
  // Why something can't be done; empty where it can.
  using Problem = std::string;

  void begin(unsigned char* memory, uint32_t bytes, uint32_t threads, const Order& order, uint64_t seed);
  // What a block leaves under way at its end.
  Problem end() const;

  unsigned char* memory() const { return memory_; }
  uint32_t bytes() const { return bytes_; }
  // As the device would number shared memory: there, too, it does not begin at 0.
  Problem address(const void* pointer, uint32_t& address) const;
  // The same place of another block's memory.
  Problem same_place(const Async& other, const void* pointer, const void*& there) const;

  Problem init(const void* barrier, uint32_t count);
  void fence_init();
  Problem arrive(const void* barrier, uint32_t bytes);
  Problem test(const void* barrier, uint32_t parity, bool& over);
  Problem load(void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier);

  void fence(uint32_t thread) { threads_[thread].fenced = true; }
  Problem multiply(uint32_t thread, float* registers, uint32_t count, uint64_t a, uint64_t b, bool bf16, bool add);
  void commit(uint32_t thread) { threads_[thread].groups.push_back(threads_[thread].issued); }
  // The products of a thread that are done when at most `pending` of its groups are not.
  uint32_t target(uint32_t thread, uint32_t pending) const;
  bool multiplied(uint32_t thread, uint32_t target) const;
  // Gives a thread the sums of its products before `target`.
  Problem take(uint32_t thread, uint32_t target);

 private:
  // Shared addresses of a block start behind what the system keeps for itself.
  static constexpr uint32_t FIRST_ADDRESS = 1024;
  static constexpr uint32_t WARPGROUP = 128, ROW = 128, PATTERN = 1024, MOST_SUMS = 128;
  struct Barrier {
    const void* at;
    uint32_t count, pending, phase;
    int64_t bytes;
    bool visible;
  };
  struct Copy {
    uint32_t to;  // offset in the memory
    TensorMap map;
    int32_t column, row;
    const void* barrier;
    uint32_t bytes() const { return map.box_rows * map.box_width * map.element_bytes; }
    uint32_t end_row() const { return (to + bytes() + ROW - 1) / ROW; }
  };
  // Operands of a product and which sums it adds to, by thread of the warpgroup.
  struct Multiplication {
    uint64_t a, b;
    uint32_t count;
    bool bf16, add;
    uint32_t arrived;
  };
  struct Sums {
    float* registers;
    uint32_t count, last;  // the last product that adds to them
    std::array<float, MOST_SUMS> value;
  };
  struct ThreadState {
    uint32_t issued, taken;
    bool fenced;
    std::vector<uint32_t> groups;      // products issued at each commit
    std::vector<float*> registers;     // of each product's sums
    std::vector<Sums> sums;
  };
  // What a row of 128 bytes of the memory holds.
  enum class Row : uint8_t { other, coming, copied };

  Barrier* find(const void* barrier);
  static void advance(Barrier& barrier);
  void land(size_t copy);
  Problem check_operand(uint64_t descriptor, uint32_t rows) const;
  void execute(uint32_t warpgroup, const Multiplication& product);
  void decode(uint64_t descriptor, uint32_t rows, bool bf16, float* to) const;
  // The offset in the memory of a row of an operand.
  static uint32_t operand_row(uint64_t descriptor, uint32_t row);

  unsigned char* memory_ = nullptr;
  uint32_t bytes_ = 0;
  Order::Pattern pattern_ = Order::forward;
  Random random_{0};
  std::vector<Barrier> barriers_;
  std::vector<Copy> copies_;
  std::vector<Row> rows_;
  std::vector<ThreadState> threads_;
  // Products of each warpgroup from its first one on.
  std::vector<std::vector<Multiplication>> products_;
};

}  // namespace simt

#pragma GCC visibility pop
