// What is issued to the tensor cores of a multiprocessor, or of a pair's two, and its execution.
#include <algorithm>
#include <cstring>
#include "tcgen05_descriptor.h"
#include "tensor_memory.h"

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t CHUNK = 16, QUARTER = 32, SCALE_COLUMNS = 4, SWIZZLE_NONE = 0, CONSTANT = 1, F32_SUMS = 1;

static std::string text(uint64_t number) { return std::to_string(number); }
// Columns of tensor memory that a left operand takes there: two numbers of 16 bits each.
static uint32_t words_of_a(uint32_t format) { return depth_of(format) / 2; }

static std::string check_instruction(const Tcgen05Product& product) {
  const uint32_t instruction = product.instruction, format = product.format, columns = columns_of(instruction);
  const uint32_t rows = product.ctas * TensorMemory::LANES, unit = product.ctas * 16;
  if (rows_of(instruction) != rows)
    return "the emulation knows products of " + text(rows) + " rows, not " + text(rows_of(instruction));
  if (columns % unit != 0 || columns < unit || columns > 256)
    return "a product has " + text(unit) + ", " + text(2 * unit) + " to 256 columns, not " + text(columns);
  const uint32_t number = format == BF16 || format == NVFP4 ? 1 : 0;
  if (field(instruction, 7, 3) != number || field(instruction, 10, 3) != number)
    return "the instruction descriptor's formats are not the product's";
  const uint32_t a_byte = scale_byte_of(product, true), fourth = scale_byte_of(product, false);
  if (!scaled(format) && (fourth != F32_SUMS || a_byte != 0)) return "the instruction descriptor's sums are not f32";
  if (format == NVFP4 && (fourth != 0 || a_byte != 0)) return "the scales of nvfp4 begin in byte 0";
  if (field(instruction, 23, 1) != (format == MXFP8 ? 1u : 0u))
    return "the instruction descriptor's scales are of another format";
  if (field(instruction, 0, 4) != 0 || field(instruction, 6, 1) != 0 || field(instruction, 13, 2) != 0 ||
      field(instruction, 31, 1) != 0)
    return "the instruction descriptor has bits that the emulation does not know";
  return "";
}

// Queues an operation in the block, and where it is a pair's in both: what each has to do of it.
template <class Prepare>
std::string TensorMemory::issue(uint32_t thread, uint32_t ctas, const Prepare& prepare) {
  Problem wrong = use(ctas);
  if (wrong.empty() && ctas == 2 && second_) wrong = "what a pair does is issued by its first block";
  if (wrong.empty() && ctas == 2 && !other_) wrong = "the second block of the pair has ended";
  if (!wrong.empty()) return wrong;
  const Issuer by{this, thread, threads_[thread].after};
  for (TensorMemory* memory : {this, ctas == 2 ? other_ : nullptr}) {
    if (!memory) continue;
    Operation operation{};
    operation.thread = thread;
    wrong = prepare(*memory, by, operation);
    if (!wrong.empty()) return memory == this ? wrong : "in the second block of the pair: " + wrong;
    memory->operations_.push_back(std::move(operation));
  }
  return "";
}

std::string TensorMemory::multiply(uint32_t thread, const Tcgen05Product& product) {
  const Problem wrong = check_instruction(product);
  if (!wrong.empty()) return wrong;
  return issue(thread, product.ctas, [&](TensorMemory& memory, const Issuer& by, Operation& operation) {
    operation.kind = Kind::product;
    operation.product = product;
    const Problem problem = memory.prepare(product, by, operation);
    return problem.empty() ? memory.check_free(by, operation.writes) : problem;
  });
}

std::string TensorMemory::prepare(const Tcgen05Product& product, const Issuer& by, Operation& operation) const {
  const uint32_t columns = columns_of(product.instruction);
  operation.reads.resize(1);
  Problem wrong = check_operand(product, false, operation.reads[0]);
  if (wrong.empty() && product.a_in_tensor_memory) {
    if (product.format > BF16) return "the emulation knows left operands in tensor memory of 16 bits only";
    if (product.a >> 16 != 0) return "the left operand starts in lane " + text(product.a >> 16) + ", not 0";
    operation.columns.resize(1);
    wrong = check_range(static_cast<uint32_t>(product.a), words_of_a(product.format), operation.columns[0]);
    if (wrong.empty()) wrong = check_stored(by, operation.columns[0]);
  } else if (wrong.empty()) {
    operation.reads.emplace_back();
    wrong = check_operand(product, true, operation.reads[1]);
  }
  if (wrong.empty() && product.sums >> 16 != 0) wrong = "sums start in lane " + text(product.sums >> 16) + ", not 0";
  if (wrong.empty()) wrong = check_range(product.sums, columns, operation.writes);
  if (wrong.empty() && scaled(product.format)) {
    operation.columns.resize(2);
    wrong = check_range(product.scales_a, SCALE_COLUMNS, operation.columns[0]);
    if (wrong.empty()) wrong = check_range(product.scales_b, (columns + QUARTER - 1) / QUARTER, operation.columns[1]);
  }
  return wrong;
}

// What threads load or store, of columns that a product writes.
std::string TensorMemory::check_free(const Issuer& by, const Columns& writes) const {
  for (uint32_t i = 0; i < threads_.size(); i++) {
    const ThreadState& other = threads_[i];
    const auto touches = [&](const Columns& columns_loaded) { return columns_loaded.overlap(writes); };
    if (std::any_of(other.loads.begin(), other.loads.end(), [&](const Load& load) { return touches(load.columns); }))
      return "a product writes columns that thread " + text(i) + " loads and has not waited for";
    if (!by.is(*this, i) && std::any_of(other.loaded.begin(), other.loaded.end(), touches))
      return "a product writes columns that thread " + text(i) + " has loaded without a tcgen05_fence_before since";
    if (const Problem problem = check_stores(i, writes, by.is(*this, i)); !problem.empty())
      return "a product writes " + problem;
  }
  for (uint32_t c = writes.first; c < writes.first + writes.count; c++)
    if (told_[c] > by.after)
      return "a product writes columns that others have used, without a tcgen05_fence_after since they told";
  return "";
}

// Of a thread that is not `own`, the one that issues: what it has stored to columns that a product uses.
std::string TensorMemory::check_stores(uint32_t thread, const Columns& columns, bool own) const {
  const ThreadState& state = threads_[thread];
  const auto meets = [&](const Columns& stored) { return stored.overlap(columns); };
  if (std::any_of(state.stores.begin(), state.stores.end(), [&](const Store& store) { return meets(store.columns); }))
    return "columns that thread " + text(thread) + " stores and has not waited for";
  if (!own && std::any_of(state.stored.begin(), state.stored.end(), meets))
    return "columns that thread " + text(thread) + " has stored without a tcgen05_fence_before since";
  return "";
}

std::string TensorMemory::check_stored(const Issuer& by, const Columns& columns) const {
  for (uint32_t i = 0; i < threads_.size(); i++)
    if (const Problem problem = check_stores(i, columns, by.is(*this, i)); !problem.empty())
      return "a product reads " + problem;
  for (uint32_t c = columns.first; c < columns.first + columns.count; c++)
    if (told_stored_[c] > by.after)
      return "a product reads columns that others have stored, without a tcgen05_fence_after since they told";
  return "";
}

std::string TensorMemory::copy_words(uint32_t thread, uint32_t to, uint64_t words, uint32_t ctas) {
  if (field(words, 46, 3) != CONSTANT) return "bits 46 to 48 of a shared memory descriptor are not 1";
  if (field(words, 61, 3) != SWIZZLE_NONE || field(words, 49, 3) != 0)
    return "the emulation copies scales without swizzle only";
  return issue(thread, ctas, [&](TensorMemory& memory, const Issuer&, Operation& operation) {
    operation.kind = Kind::copy;
    operation.reads = {{start_of(words), QUARTER, CHUNK, stride_of(words), QUARTER, 0}};
    const Problem wrong = memory.check_readable(operation.reads[0]);
    return wrong.empty() ? memory.check_range(to, SCALE_COLUMNS, operation.writes) : wrong;
  });
}

std::string TensorMemory::commit(uint32_t thread, const void* barrier, uint32_t ctas) {
  return issue(thread, ctas, [&](TensorMemory& memory, const Issuer&, Operation& operation) {
    operation.kind = Kind::commit;
    return async_->same_place(*memory.async_, barrier, operation.barrier);
  });
}

std::string TensorMemory::overwrite(const void* to, uint32_t bytes) const {
  uint32_t address = 0;
  // A copy to elsewhere is refused by who makes it.
  if (!async_->address(to, address).empty()) return "";
  for (const Operation& operation : operations_)
    for (const Operand& read : operation.reads)
      if (read.overlaps(address, bytes))
        return "the copy overwrites an operand of a tcgen05 operation of thread " + text(operation.thread) +
               ", whose commit nobody has waited for";
  return "";
}

std::string TensorMemory::complete(const void* barrier) {
  const auto awaited = std::find_if(operations_.begin(), operations_.end(), [&](const Operation& operation) {
    return operation.kind == Kind::commit && operation.barrier == barrier;
  });
  if (awaited == operations_.end()) return "";
  const auto count = static_cast<size_t>(awaited - operations_.begin()) + 1;
  // The queues of a pair are alike.
  return ctas_ == 2 && second_ ? other_->complete_first(count) : complete_first(count);
}

// What the thread that issued the last of the first `count` operations issued of these.
std::string TensorMemory::complete_first(size_t count) {
  const uint32_t thread = operations_[count - 1].thread;
  for (size_t i = 0; i < count; i++) {
    if (operations_[i].thread != thread) continue;
    const uint64_t now = tick();
    for (TensorMemory* memory : {this, ctas_ == 2 ? other_ : nullptr})
      if (const Problem problem = memory ? memory->execute(memory->operations_[i], now) : ""; !problem.empty())
        return problem;
  }
  for (TensorMemory* memory : {this, ctas_ == 2 ? other_ : nullptr}) {
    if (!memory) continue;
    const auto first = memory->operations_.begin(), end = first + static_cast<std::ptrdiff_t>(count);
    memory->operations_.erase(
      std::remove_if(first, end, [&](const Operation& operation) { return operation.thread == thread; }), end);
  }
  return "";
}

std::string TensorMemory::execute(const Operation& operation, uint64_t now) {
  if (operation.kind == Kind::commit) return async_->arrive(operation.barrier, 0);
  if (operation.kind == Kind::product) {
    if (const Problem problem = execute_product(operation.product); !problem.empty()) return problem;
  } else {
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const Problem problem = async_->read(operation.reads[0].row(lane % QUARTER),
                                           &(*cells_)[lane][operation.writes.first], CHUNK);
      if (!problem.empty()) return problem;
    }
  }
  std::fill_n(done_.begin() + operation.writes.first, operation.writes.count, now);
  for (const Columns& columns : operation.columns) std::fill_n(read_.begin() + columns.first, columns.count, now);
  return "";
}

std::string TensorMemory::execute_product(const Tcgen05Product& product) {
  const uint32_t columns = columns_of(product.instruction), depth = depth_of(product.format);
  std::vector<float> a(depth * LANES), b(depth * columns), part(columns);
  if (const Problem problem = decode(product, true, a); !problem.empty()) return problem;
  if (const Problem problem = decode(product, false, b); !problem.empty()) return problem;
  // Products are exact in f32; the device sums them in an order and with roundings of its own.
  for (uint32_t m = 0; m < LANES; m++) {
    float* __restrict__ sum = part.data();
    std::fill_n(sum, columns, 0.0f);
    for (uint32_t k = 0; k < depth; k++) {
      const float left = a[k * LANES + m];
      const float* __restrict__ right = &b[k * columns];
      for (uint32_t n = 0; n < columns; n++) sum[n] += left * right[n];
    }
    uint32_t* cells = &(*cells_)[m][product.sums & 0xffffu];
    for (uint32_t n = 0; n < columns; n++) {
      float before = 0;
      if (product.add) std::memcpy(&before, &cells[n], sizeof before);
      const float after = product.add ? before + sum[n] : sum[n];
      std::memcpy(&cells[n], &after, sizeof after);
    }
  }
  return "";
}

}  // namespace simt

#pragma GCC visibility pop
