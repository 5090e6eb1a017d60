// What runs beside the threads of a block: the barriers that count bytes, the copies that they wait for, and products
// of warpgroups. Everything comes as late as the programming model lets it: a copy when some thread waits for its
// barrier, in the order of the launch; sums when a warpgroup waits for them. Until then there is poison, and using
// what is under way ends the launch. What threads store to shared memory is there for copies and products from a fence
// on: as it was then, so that a later store without a fence shows as a difference. One fence serves all threads here,
// on the device only the thread that calls it. What is stored from shared memory is read when its thread waits for
// that, and in device memory when the thread waits for the whole or its block has ended.
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
  // What a block leaves under way at its end; stores that have read their boxes come to device memory.
  Problem end();

  unsigned char* memory() const { return memory_; }
  uint32_t bytes() const { return bytes_; }
  // As the device would number shared memory: there, too, it does not begin at 0.
  Problem address(const void* pointer, uint32_t& address) const;
  // The same place of another block's memory.
  Problem same_place(const Async& other, const void* pointer, const void*& there) const;

  Problem init(const void* barrier, uint32_t count);
  Problem invalidate(const void* barrier);
  void fence_init();
  Problem arrive(const void* barrier, uint32_t bytes);
  Problem test(const void* barrier, uint32_t parity, bool& over);
  // What copies and products find in a part of a row of 128 bytes, or why they can't read it.
  Problem read(uint32_t address, void* to, uint32_t bytes) const;
  // Makes what threads have stored visible to copies and products.
  void publish();
  // The barrier may be another block's, `signals`.
  Problem load(void* to, const TensorMap& map, int32_t column, int32_t row, const void* barrier, Async& signals);

  Problem store(uint32_t thread, const TensorMap& map, int32_t column, int32_t row, const void* from, bool add);
  void commit_stores(uint32_t thread) { threads_[thread].store_groups++; }
  // All but the last `pending` groups: their boxes are read, or stored too.
  Problem wait_for_stores(uint32_t thread, uint32_t pending, bool read);

  void fence(uint32_t thread) { threads_[thread].fenced = true; }
  Problem multiply(uint32_t thread, float* sums, uint32_t count, const Wgmma& operands);
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
    Async* into;
    uint32_t to;  // offset in its memory
    TensorMap map;
    int32_t column, row;
    const void* barrier;
    uint32_t bytes() const { return map.box_rows * map.box_width * map.element_bytes; }
    uint32_t end_row() const { return (to + bytes() + ROW - 1) / ROW; }
  };
  // A box on its way to device memory: `bytes` as it was when the store was issued.
  struct Store {
    TensorMap map;
    int32_t column, row;
    uint32_t from, group;  // offset in the memory
    bool add, read;
    std::vector<unsigned char> bytes;
  };
  // A matrix in shared memory that a product reads: `rows` of m or n.
  struct Operand {
    uint64_t descriptor;
    WgmmaMajor major;
    uint32_t rows, element_bytes, depth;
  };
  // A product of a warpgroup; of A in registers also what each thread gave.
  struct Multiplication {
    Wgmma operands;
    uint32_t count, arrived;
    bool done;
    std::vector<std::array<uint32_t, 4>> fragments;
    Operand a() const;
    Operand b() const;
  };
  struct Sums {
    float* registers;
    uint32_t count, last;  // the last product that adds to them
    std::array<float, MOST_SUMS> value;
  };
  struct Fragment {
    const uint32_t* registers;
    std::array<uint32_t, 4> value;
    uint32_t product;
  };
  struct ThreadState {
    uint32_t issued, taken;
    bool fenced;
    std::vector<uint32_t> groups;   // products issued at each commit
    std::vector<float*> registers;  // of each product's sums
    std::vector<Sums> sums;
    std::vector<Fragment> fragments;
    uint32_t store_groups;
    std::vector<Store> stores;
  };
  // What copies and products see in a row of 128 bytes of the memory: `bytes` are in published_.
  enum class Row : uint8_t { nothing, coming, bytes };

  Barrier* find(const void* barrier);
  static void advance(Barrier& barrier);
  void land(size_t copy);
  void receive(const Copy& copy);
  Problem read_box(Store& store) const;
  static void land(const Store& store);
  // Why copies and products can't read a row.
  Problem check_row(uint32_t row) const;
  Problem check_operand(const Operand& operand) const;
  Problem check_operands(const Multiplication& product) const;
  Problem execute(uint32_t warpgroup, uint32_t number);
  void decode(const Operand& operand, WgmmaFormat format, float* to) const;
  static void decode(const Multiplication& product, float* to);
  // Offsets in the memory of the rows that an operand lies in.
  static std::vector<uint32_t> rows_of(const Operand& operand);

  unsigned char* memory_ = nullptr;
  uint32_t bytes_ = 0;
  Order::Pattern pattern_ = Order::forward;
  Random random_{0};
  std::vector<Barrier> barriers_;
  // Those that its barriers wait for, and how many are on their way into its memory.
  std::vector<Copy> copies_;
  uint32_t coming_ = 0;
  std::vector<Row> rows_;
  std::vector<unsigned char> published_;
  std::vector<ThreadState> threads_;
  // Products of each warpgroup from its first one on.
  std::vector<std::vector<Multiplication>> products_;
};

}  // namespace simt

#pragma GCC visibility pop
