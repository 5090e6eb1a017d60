// Where tcgen05 finds its operands, and what they hold.
#include "numbers.h"
#include "tcgen05_descriptor.h"
#include "tensor_memory.h"

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t STEP_BYTES = 32, CHUNK = 16, ROW = 128, PATTERN = 1024, QUARTER = 32, BOX = 64;
constexpr uint32_t SWIZZLE_128 = 2, CONSTANT = 1, NO_LEADING_OFFSET = 16;

static std::string text(uint64_t number) { return std::to_string(number); }

// Rows of an operand that the calling block has: of b its part, where a pair multiplies.
static uint32_t rows_of_block(const Tcgen05Product& product, bool is_a) {
  return is_a ? TensorMemory::LANES : columns_of(product.instruction) / product.ctas;
}

bool TensorMemory::Operand::overlaps(uint32_t from, uint32_t bytes) const {
  for (uint32_t r = 0; r < rows; r += 8) {
    if (row(r) < from + bytes && from < row(r) + 8 * row_bytes) return true;
  }
  return false;
}

// Of a tile of rows along k from its first row on, or of boxes of 64 columns that have a row for each of k.
TensorMemory::Operand TensorMemory::operand_of(const Tcgen05Product& product, bool is_a) {
  const uint64_t descriptor = is_a ? product.a : product.b;
  const uint32_t start = start_of(descriptor) / ROW * ROW, rows = rows_of_block(product, is_a);
  if (in_columns(product, is_a)) {
    const uint32_t depth = depth_of(product.format);
    return {start, (rows + BOX - 1) / BOX * depth, ROW, stride_of(descriptor), depth, leading_of(descriptor)};
  }
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
  if (!in_columns(product, is_a)) {
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

std::string TensorMemory::scale_word(uint32_t scales, uint32_t row, uint32_t& word) const {
  const uint32_t column = (scales & 0xffffu) + row / QUARTER;
  word = (*cells_)[row % QUARTER][column];
  for (uint32_t lane = row % QUARTER; lane < LANES; lane += QUARTER)
    if ((*cells_)[lane][column] != word)
      return "the scales in column " + text(column) + " are not the same in all quarters of the lanes";
  return "";
}

std::string TensorMemory::decode_columns(const Tcgen05Product& product, bool is_a, float* to, uint32_t pitch) const {
  const Operand operand = operand_of(product, is_a);
  const uint32_t columns = rows_of_block(product, is_a), depth = depth_of(product.format);
  for (uint32_t r = 0; r < operand.rows; r++) {
    std::array<uint16_t, BOX> numbers;
    const uint32_t row = operand.row(r);
    for (uint32_t chunk = 0; chunk < ROW / CHUNK; chunk++)
      if (const Problem problem = async_->read(row + (chunk ^ row / ROW % 8) * CHUNK, &numbers[chunk * 8], CHUNK);
          !problem.empty())
        return "row " + text(r) + " of an operand " + problem;
    for (uint32_t i = 0, n = r / depth * BOX; i < BOX && n < columns; i++, n++)
      to[r % depth * pitch + n] = product.format == F16 ? f16_value(numbers[i]) : bf16_value(numbers[i]);
  }
  return "";
}

std::string TensorMemory::decode_rows(const Tcgen05Product& product, bool is_a, float* to, uint32_t pitch) const {
  const Operand operand = operand_of(product, is_a);
  const uint32_t start = start_of(is_a ? product.a : product.b) % ROW, depth = depth_of(product.format);
  for (uint32_t r = 0; r < operand.rows; r++) {
    const uint32_t row = operand.row(r);
    std::array<unsigned char, STEP_BYTES> bytes;
    for (uint32_t chunk = 0; chunk < STEP_BYTES; chunk += CHUNK) {
      const uint32_t place = (start + chunk) / CHUNK ^ row / ROW % 8;
      if (const Problem problem = async_->read(row + place * CHUNK, &bytes[chunk], CHUNK); !problem.empty())
        return "row " + text(r) + " of an operand " + problem;
    }
    for (uint32_t k = 0; k < depth; k++) {
      const uint32_t pair = product.format <= BF16 ? bytes[2 * k] | bytes[2 * k + 1] << 8 : 0;
      float& value = to[k * pitch + r];
      switch (product.format) {
        case F16: value = f16_value(pair); break;
        case BF16: value = bf16_value(pair); break;
        case NVFP4: value = e2m1_value(bytes[k / 2] >> k % 2 * 4 & 15); break;
        default: value = e4m3_value(bytes[k]);
      }
    }
  }
  return "";
}

// A left operand in tensor memory: row m in lane m, the numbers of two neighbouring k in a word, the first below.
void TensorMemory::decode_words(const Tcgen05Product& product, std::vector<float>& to) const {
  for (uint32_t m = 0; m < LANES; m++)
    for (uint32_t k = 0; k < depth_of(product.format); k++) {
      const uint32_t word = (*cells_)[m][(product.a & 0xffffu) + k / 2], half = word >> k % 2 * 16 & 0xffffu;
      to[k * LANES + m] = product.format == F16 ? f16_value(half) : bf16_value(half);
    }
}

std::string TensorMemory::scale(const Tcgen05Product& product, bool is_a, std::vector<float>& to, uint32_t rows) const {
  const uint32_t byte = scale_byte_of(product, is_a);
  for (uint32_t r = 0; r < rows; r++) {
    uint32_t word = 0;
    if (const Problem problem = scale_word(is_a ? product.scales_a : product.scales_b, r, word); !problem.empty())
      return problem;
    for (uint32_t k = 0; k < depth_of(product.format); k++)
      to[k * rows + r] *= product.format == MXFP8 ? e8m0_value(word >> 8 * byte & 0xff)
                                                  : e4m3_value(word >> k / 16 * 8 & 0x7f);
  }
  return "";
}

std::string TensorMemory::decode(const Tcgen05Product& product, bool is_a, std::vector<float>& to) const {
  if (is_a && product.a_in_tensor_memory) {
    decode_words(product, to);
    return "";
  }
  // The first block of a pair has the first half of b.
  const uint32_t parts = is_a ? 1 : product.ctas, rows = parts * rows_of_block(product, is_a);
  for (uint32_t part = 0; part < parts; part++) {
    const TensorMemory& from = parts == 1 || (part == 1) == second_ ? *this : *other_;
    float* first = &to[part * (rows / parts)];
    const Problem problem = in_columns(product, is_a) ? from.decode_columns(product, is_a, first, rows)
                                                      : from.decode_rows(product, is_a, first, rows);
    if (!problem.empty()) return problem;
  }
  return scaled(product.format) ? scale(product, is_a, to, rows) : "";
}

}  // namespace simt

#pragma GCC visibility pop
