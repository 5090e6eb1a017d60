// What is issued to the tensor cores of a multiprocessor, and its execution.
#include <algorithm>
#include <cstring>
#include "numbers.h"
#include "tensor_memory.h"

#pragma GCC visibility push(hidden)

namespace simt {

// As Tcgen05Format of kernels-cuda/lib/tcgen05.h numbers them.
enum Format : uint32_t { F16, BF16, E4M3, MXFP8, NVFP4 };

constexpr uint32_t STEP_BYTES = 32, TILE_ROWS = 128, CHUNK = 16, ROW = 128, PATTERN = 1024, QUARTER = 32;
constexpr uint32_t SWIZZLE_NONE = 0, SWIZZLE_128 = 2, CONSTANT = 1, F32_SUMS = 1;
constexpr uint32_t SCALE_COLUMNS = 4, BOX = 64, NO_LEADING_OFFSET = 16;

static std::string text(uint64_t number) { return std::to_string(number); }
static uint64_t field(uint64_t descriptor, uint32_t first, uint32_t bits) {
  return descriptor >> first & ((uint64_t{1} << bits) - 1);
}

// Fields of a shared memory descriptor (PTX ISA).
static uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 0, 14)) << 4; }
static uint32_t leading_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 16, 14)) << 4; }
static uint32_t stride_of(uint64_t descriptor) { return static_cast<uint32_t>(field(descriptor, 32, 14)) << 4; }

static bool b_in_columns(const Tcgen05Product& product) { return field(product.instruction, 16, 1) != 0; }
static bool scaled(uint32_t format) { return format == MXFP8 || format == NVFP4; }
static uint32_t depth_of(uint32_t format) { return format <= BF16 ? 16 : format == NVFP4 ? 64 : 32; }
static uint32_t columns_of(uint32_t instruction) { return static_cast<uint32_t>(field(instruction, 17, 6)) * 8; }
// Columns of tensor memory that a left operand takes there: two numbers of 16 bits each.
static uint32_t words_of_a(uint32_t format) { return depth_of(format) / 2; }

bool TensorMemory::Operand::overlaps(uint32_t from, uint32_t bytes) const {
  for (uint32_t r = 0; r < rows; r += 8) {
    if (row(r) < from + bytes && from < row(r) + 8 * row_bytes) return true;
  }
  return false;
}

// Of a tile of rows along k from its first row on, or of boxes of 64 columns that have a row for each of k.
TensorMemory::Operand TensorMemory::operand_of(const Tcgen05Product& product, bool is_a) {
  const uint64_t descriptor = is_a ? product.a : product.b;
  const uint32_t start = start_of(descriptor) / ROW * ROW, columns = columns_of(product.instruction);
  if (!is_a && b_in_columns(product)) {
    const uint32_t depth = depth_of(product.format);
    return {start, (columns + BOX - 1) / BOX * depth, ROW, stride_of(descriptor), depth, leading_of(descriptor)};
  }
  const uint32_t rows = is_a ? TILE_ROWS : columns;
  return {start, rows, ROW, stride_of(descriptor), rows, 0};
}

std::string TensorMemory::check_operand(const Tcgen05Product& product, bool is_a, Operand& operand) const {
  const uint64_t descriptor = is_a ? product.a : product.b;
  if (field(descriptor, 46, 3) != CONSTANT) return "bits 46 to 48 of a shared memory descriptor are not 1";
  if (field(descriptor, 61, 3) != SWIZZLE_128 || field(descriptor, 49, 3) != 0)
    return "the emulation knows operands with the swizzle of 128 bytes and base offset 0 only";
  const uint32_t start = start_of(descriptor), leading = leading_of(descriptor);
  if (start % PATTERN >= ROW)
    return "an operand starts at address " + text(start) + ", not in the first row of a pattern";
  if (start % STEP_BYTES != 0) return "an operand's 32 bytes start at address " + text(start) + ", no multiple of 32";
  if (stride_of(descriptor) % PATTERN != 0)
    return "an operand's patterns are " + text(stride_of(descriptor)) + " bytes apart, no multiple of 1024";
  if (is_a || !b_in_columns(product)) {
    if (leading != NO_LEADING_OFFSET)
      return "an operand of rows along k has the leading offset " + text(leading) + " of one along columns";
  } else {
    if (product.format > BF16) return "only numbers of 16 bits may lie along columns";
    if (start % ROW != 0) return "an operand along columns starts within a row of 128 bytes";
    if (leading == 0 || leading % PATTERN != 0)
      return "an operand's 64 columns are " + text(leading) + " bytes apart, no multiple of 1024";
  }
  operand = operand_of(product, is_a);
  return check_readable(operand);
}

std::string TensorMemory::check_readable(const Operand& operand) const {
  std::array<unsigned char, ROW> bytes;
  for (uint32_t r = 0; r < operand.rows; r++)
    if (const Problem problem = async_->read(operand.row(r), bytes.data(), operand.row_bytes); !problem.empty())
      return "row " + text(r) + " of an operand " + problem;
  return "";
}

static std::string check_instruction(const Tcgen05Product& product) {
  const uint32_t instruction = product.instruction, format = product.format, columns = columns_of(instruction);
  if (field(instruction, 24, 5) * 16 != TILE_ROWS)
    return "the emulation knows products of 128 rows, not " + text(field(instruction, 24, 5) * 16);
  if (columns % 16 != 0 || columns < 16 || columns > 256)
    return "a product has 16, 32 to 256 columns, not " + text(columns);
  const uint32_t number = format == BF16 || format == NVFP4 ? 1 : 0;
  if (field(instruction, 7, 3) != number || field(instruction, 10, 3) != number)
    return "the instruction descriptor's formats are not the product's";
  const uint32_t a_byte = static_cast<uint32_t>(field(instruction, 29, 2));
  const uint32_t fourth = static_cast<uint32_t>(field(instruction, 4, 2));
  if (!scaled(format) && (fourth != F32_SUMS || a_byte != 0)) return "the instruction descriptor's sums are not f32";
  if (format == NVFP4 && (fourth != 0 || a_byte != 0)) return "the scales of nvfp4 begin in byte 0";
  if (field(instruction, 23, 1) != (format == MXFP8 ? 1u : 0u))
    return "the instruction descriptor's scales are of another format";
  if (field(instruction, 0, 4) != 0 || field(instruction, 6, 1) != 0 || field(instruction, 13, 3) != 0 ||
      field(instruction, 31, 1) != 0)
    return "the instruction descriptor has bits that the emulation does not know";
  return "";
}

std::string TensorMemory::multiply(uint32_t thread, const Tcgen05Product& product) {
  std::string wrong = check_instruction(product);
  if (!wrong.empty()) return wrong;
  const uint32_t columns = columns_of(product.instruction);
  Operation operation{Kind::product, thread, product, nullptr, {}, {}, {{}}};
  wrong = check_operand(product, false, operation.reads[0]);
  if (wrong.empty() && product.a_in_tensor_memory) {
    if (product.format > BF16) return "the emulation knows left operands in tensor memory of 16 bits only";
    if (product.a >> 16 != 0) return "the left operand starts in lane " + text(product.a >> 16) + ", not 0";
    operation.columns.resize(1);
    wrong = check_range(static_cast<uint32_t>(product.a), words_of_a(product.format), operation.columns[0]);
    if (wrong.empty()) wrong = check_stored(thread, operation.columns[0]);
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
  if (!wrong.empty()) return wrong;
  for (uint32_t i = 0; i < threads_.size(); i++) {
    const ThreadState& other = threads_[i];
    const auto touches = [&](const Columns& columns_loaded) { return columns_loaded.overlap(operation.writes); };
    if (std::any_of(other.loads.begin(), other.loads.end(), [&](const Load& load) { return touches(load.columns); }))
      return "a product writes columns that thread " + text(i) + " loads and has not waited for";
    if (i != thread && std::any_of(other.loaded.begin(), other.loaded.end(), touches))
      return "a product writes columns that thread " + text(i) + " has loaded without a tcgen05_fence_before since";
    if (const Problem problem = check_stores(i, operation.writes, i == thread); !problem.empty())
      return "a product writes " + problem;
  }
  for (uint32_t c = operation.writes.first; c < operation.writes.first + columns; c++)
    if (told_[c] > threads_[thread].after)
      return "a product writes columns that others have used, without a tcgen05_fence_after since they told";
  operations_.push_back(std::move(operation));
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

std::string TensorMemory::check_stored(uint32_t thread, const Columns& columns) const {
  for (uint32_t i = 0; i < threads_.size(); i++)
    if (const Problem problem = check_stores(i, columns, i == thread); !problem.empty())
      return "a product reads " + problem;
  for (uint32_t c = columns.first; c < columns.first + columns.count; c++)
    if (told_stored_[c] > threads_[thread].after)
      return "a product reads columns that others have stored, without a tcgen05_fence_after since they told";
  return "";
}

std::string TensorMemory::copy_words(uint32_t thread, uint32_t to, uint64_t words) {
  if (field(words, 46, 3) != CONSTANT) return "bits 46 to 48 of a shared memory descriptor are not 1";
  if (field(words, 61, 3) != SWIZZLE_NONE || field(words, 49, 3) != 0)
    return "the emulation copies scales without swizzle only";
  Operation operation{Kind::copy, thread, {}, nullptr, {}, {}, {{}}};
  operation.product.sums = to;
  operation.reads[0] = {start_of(words), QUARTER, CHUNK, stride_of(words), QUARTER, 0};
  Problem wrong = check_readable(operation.reads[0]);
  if (wrong.empty()) wrong = check_range(to, SCALE_COLUMNS, operation.writes);
  if (!wrong.empty()) return wrong;
  operations_.push_back(std::move(operation));
  return "";
}

std::string TensorMemory::commit(uint32_t thread, const void* barrier) {
  operations_.push_back({Kind::commit, thread, {}, barrier, {}, {}, {}});
  return "";
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
  const uint32_t thread = awaited->thread;
  const auto end = awaited + 1;
  for (auto operation = operations_.begin(); operation != end; operation++)
    if (operation->thread == thread)
      if (const Problem problem = execute(*operation); !problem.empty()) return problem;
  operations_.erase(std::remove_if(operations_.begin(), end,
                                   [&](const Operation& operation) { return operation.thread == thread; }),
                    end);
  return "";
}

std::string TensorMemory::execute(const Operation& operation) {
  if (operation.kind == Kind::commit) return async_->arrive(operation.barrier, 0);
  clock_++;
  if (operation.kind == Kind::product) {
    if (const Problem problem = execute_product(operation.product); !problem.empty()) return problem;
  } else {
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const Problem problem = async_->read(operation.reads[0].row(lane % QUARTER),
                                           &(*cells_)[lane][operation.writes.first], CHUNK);
      if (!problem.empty()) return problem;
    }
  }
  std::fill_n(done_.begin() + operation.writes.first, operation.writes.count, clock_);
  for (const Columns& columns : operation.columns)
    std::fill_n(read_.begin() + columns.first, columns.count, clock_);
  return "";
}

std::string TensorMemory::scale_word(uint32_t scales, uint32_t row, uint32_t& word) const {
  const uint32_t column = (scales & 0xffffu) + row / QUARTER;
  word = (*cells_)[row % QUARTER][column];
  for (uint32_t lane = row % QUARTER; lane < LANES; lane += QUARTER)
    if ((*cells_)[lane][column] != word)
      return "the scales in column " + text(column) + " are not the same in all quarters of the lanes";
  return "";
}

std::string TensorMemory::decode_columns(const Tcgen05Product& product, std::vector<float>& to) const {
  const Operand operand = operand_of(product, false);
  const uint32_t columns = columns_of(product.instruction), depth = depth_of(product.format);
  for (uint32_t r = 0; r < operand.rows; r++) {
    std::array<uint16_t, BOX> numbers;
    const uint32_t row = operand.row(r);
    for (uint32_t chunk = 0; chunk < ROW / CHUNK; chunk++)
      if (const Problem problem = async_->read(row + (chunk ^ row / ROW % 8) * CHUNK, &numbers[chunk * 8], CHUNK);
          !problem.empty())
        return "row " + text(r) + " of an operand " + problem;
    for (uint32_t i = 0, n = r / depth * BOX; i < BOX && n < columns; i++, n++)
      to[r % depth * columns + n] = product.format == F16 ? f16_value(numbers[i]) : bf16_value(numbers[i]);
  }
  return "";
}

// A left operand in tensor memory: row m in lane m, the numbers of two neighbouring k in a word, the first below.
void TensorMemory::decode_words(const Tcgen05Product& product, std::vector<float>& to) const {
  for (uint32_t m = 0; m < TILE_ROWS; m++)
    for (uint32_t k = 0; k < depth_of(product.format); k++) {
      const uint32_t word = (*cells_)[m][(product.a & 0xffffu) + k / 2], half = word >> k % 2 * 16 & 0xffffu;
      to[k * TILE_ROWS + m] = product.format == F16 ? f16_value(half) : bf16_value(half);
    }
}

std::string TensorMemory::decode(const Tcgen05Product& product, bool is_a, std::vector<float>& to) const {
  if (!is_a && b_in_columns(product)) return decode_columns(product, to);
  if (is_a && product.a_in_tensor_memory) {
    decode_words(product, to);
    return "";
  }
  const Operand operand = operand_of(product, is_a);
  const uint32_t rows = operand.rows, depth = depth_of(product.format);
  const uint32_t start = start_of(is_a ? product.a : product.b) % ROW;
  const auto scale_byte = static_cast<uint32_t>(field(product.instruction, is_a ? 29 : 4, 2));
  for (uint32_t r = 0; r < rows; r++) {
    const uint32_t row = operand.row(r);
    std::array<unsigned char, STEP_BYTES> bytes;
    for (uint32_t chunk = 0; chunk < STEP_BYTES; chunk += CHUNK) {
      const uint32_t place = (start + chunk) / CHUNK ^ row / ROW % 8;
      if (const Problem problem = async_->read(row + place * CHUNK, &bytes[chunk], CHUNK); !problem.empty())
        return "row " + text(r) + " of an operand " + problem;
    }
    uint32_t scales = 0;
    if (scaled(product.format)) {
      const Problem problem = scale_word(is_a ? product.scales_a : product.scales_b, r, scales);
      if (!problem.empty()) return problem;
    }
    for (uint32_t k = 0; k < depth; k++) {
      const uint32_t pair = product.format <= BF16 ? bytes[2 * k] | bytes[2 * k + 1] << 8 : 0;
      float& value = to[k * rows + r];
      switch (product.format) {
        case F16: value = f16_value(pair); break;
        case BF16: value = bf16_value(pair); break;
        case E4M3: value = e4m3_value(bytes[k]); break;
        case MXFP8: value = e4m3_value(bytes[k]) * e8m0_value(scales >> 8 * scale_byte & 0xff); break;
        default: value = e2m1_value(bytes[k / 2] >> k % 2 * 4 & 15) * e4m3_value(scales >> k / 16 * 8 & 0x7f);
      }
    }
  }
  return "";
}

std::string TensorMemory::execute_product(const Tcgen05Product& product) {
  const uint32_t columns = columns_of(product.instruction), depth = depth_of(product.format);
  std::vector<float> a(depth * TILE_ROWS), b(depth * columns), part(columns);
  if (const Problem problem = decode(product, true, a); !problem.empty()) return problem;
  if (const Problem problem = decode(product, false, b); !problem.empty()) return problem;
  // Products are exact in f32; the device sums them in an order and with roundings of its own.
  for (uint32_t m = 0; m < TILE_ROWS; m++) {
    float* __restrict__ sum = part.data();
    std::fill_n(sum, columns, 0.0f);
    for (uint32_t k = 0; k < depth; k++) {
      const float left = a[k * TILE_ROWS + m];
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
