// Products of warpgroups: each is computed when the first of its threads waits for it, and nobody sees it before.
#include <algorithm>
#include <cstring>
#include <utility>
#include "async.h"
#include "numbers.h"

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t SWIZZLE_128 = 1, TILE = 64, NO_LEADING_OFFSET = 16;
constexpr uint32_t POISON = 0xffffffffu;

static std::string text(uint64_t number) { return std::to_string(number); }

// Fields of a matrix descriptor (PTX ISA).
static uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor & 0x3fff) << 4; }
static uint32_t leading_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4; }
static uint32_t stride_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4; }
static uint32_t swizzle_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 62); }
static uint32_t base_offset_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 49 & 7); }

static uint32_t element_bytes(WgmmaFormat format) { return format == WgmmaFormat::e4m3 ? 1 : 2; }
static uint32_t depth_of(WgmmaFormat format) { return 32 / element_bytes(format); }

Async::Operand Async::Multiplication::a() const {
  return {operands.a, operands.a_major, TILE, element_bytes(operands.format), depth_of(operands.format)};
}
Async::Operand Async::Multiplication::b() const {
  return {operands.b, operands.b_major, 2 * count, element_bytes(operands.format), depth_of(operands.format)};
}

// Eight rows of 128 bytes are a pattern. K-major: a row for each of m or n, and patterns the stride apart. MN-major: a
// row for each of k and of 64 m or n; the next eight k are the stride on, the next 64 m or n the leading offset.
std::vector<uint32_t> Async::rows_of(const Operand& operand) {
  const uint32_t first = (start_of(operand.descriptor) & ~127u) - FIRST_ADDRESS;
  const uint32_t stride = stride_of(operand.descriptor), leading = leading_of(operand.descriptor);
  std::vector<uint32_t> rows;
  if (operand.major == WgmmaMajor::k)
    for (uint32_t r = 0; r < operand.rows; r++) rows.push_back(first + r / 8 * stride + r % 8 * ROW);
  else
    for (uint32_t box = 0; box < (operand.rows + TILE - 1) / TILE; box++)
      for (uint32_t k = 0; k < operand.depth; k++)
        rows.push_back(first + box * leading + k / 8 * stride + k % 8 * ROW);
  return rows;
}

std::string Async::check_operand(const Operand& operand) const {
  const uint64_t descriptor = operand.descriptor;
  if (swizzle_of(descriptor) != SWIZZLE_128 || base_offset_of(descriptor) != 0)
    return "the emulation knows operands with the swizzle of 128 bytes and base offset 0 only";
  const uint32_t start = start_of(descriptor), leading = leading_of(descriptor);
  if (start % PATTERN >= ROW)
    return "an operand starts at address " + text(start) + ", not in the first row of a pattern";
  if (stride_of(descriptor) % PATTERN != 0)
    return "an operand's patterns are " + text(stride_of(descriptor)) + " bytes apart, no multiple of 1024";
  if (operand.major == WgmmaMajor::k) {
    if (start % ROW > ROW - operand.depth * operand.element_bytes)
      return "an operand's " + text(operand.depth) + " elements leave their row of 128 bytes";
    if (leading != NO_LEADING_OFFSET)
      return "a K-major operand has the leading offset " + text(leading) + " of an MN-major one";
  } else {
    if (start % ROW != 0) return "an MN-major operand starts within a row of 128 bytes";
    if (leading == 0 || leading % PATTERN != 0)
      return "an MN-major operand's 64 columns are " + text(leading) + " bytes apart, no multiple of 1024";
  }
  uint32_t r = 0;
  for (const uint32_t at : rows_of(operand)) {
    if (start < FIRST_ADDRESS || at + ROW > bytes_) return "an operand leaves the dynamic shared memory";
    if (const Problem problem = check_row(at); !problem.empty())
      return "row " + text(r) + " of an operand " + problem;
    r++;
  }
  return "";
}

std::string Async::check_operands(const Multiplication& product) const {
  if (!product.operands.registers)
    if (const Problem problem = check_operand(product.a()); !problem.empty()) return problem;
  return check_operand(product.b());
}

std::string Async::multiply(uint32_t thread, float* registers, uint32_t count, const Wgmma& operands) {
  const uint32_t warpgroup = thread / WARPGROUP;
  if (warpgroup >= products_.size()) return "the thread is in no whole warpgroup";
  ThreadState& state = threads_[thread];
  std::vector<Multiplication>& products = products_[warpgroup];
  if (state.issued == products.size()) {
    products.push_back({operands, count, 0, false, {}});
    if (operands.registers) products.back().fragments.resize(WARPGROUP);
    if (const Problem problem = check_operands(products.back()); !problem.empty()) return problem;
  }
  Multiplication& product = products[state.issued];
  const Wgmma& first = product.operands;
  if (first.a != operands.a || !first.registers != !operands.registers || first.b != operands.b ||
      first.format != operands.format || first.a_major != operands.a_major || first.b_major != operands.b_major ||
      first.add != operands.add || product.count != count)
    return "the threads of a warpgroup issue different wgmma";
  auto sums = std::find_if(state.sums.begin(), state.sums.end(),
                           [&](const Sums& one) { return one.registers == registers; });
  if (!state.fenced && (sums == state.sums.end() || operands.registers))
    return "wgmma without a wgmma_fence since its registers were free";
  if (sums == state.sums.end()) {
    sums = state.sums.insert(sums, {registers, count, 0, {}});
    std::memcpy(sums->value.data(), registers, count * sizeof(float));
    std::fill_n(reinterpret_cast<uint32_t*>(registers), count, POISON);
  }
  if (operands.registers) {
    auto& fragment = product.fragments[thread % WARPGROUP];
    std::copy_n(operands.registers, fragment.size(), fragment.begin());
    state.fragments.push_back({operands.registers, fragment, state.issued});
  }
  sums->last = state.issued++;
  state.registers.push_back(registers);
  product.arrived++;
  return "";
}

static float value_of(WgmmaFormat format, uint32_t bits) {
  return format == WgmmaFormat::f16    ? f16_value(bits)
         : format == WgmmaFormat::bf16 ? bf16_value(bits)
                                       : e4m3_value(bits);
}

// to[k][row]
void Async::decode(const Operand& operand, WgmmaFormat format, float* to) const {
  const std::vector<uint32_t> rows = rows_of(operand);
  const uint32_t start = start_of(operand.descriptor) % ROW;
  for (uint32_t r = 0; r < operand.rows; r++)
    for (uint32_t k = 0; k < operand.depth; k++) {
      const bool along_k = operand.major == WgmmaMajor::k;
      const uint32_t row = rows[along_k ? r : r / TILE * operand.depth + k];
      const uint32_t byte = start + operand.element_bytes * (along_k ? k : r % TILE);
      uint16_t bits = 0;
      std::memcpy(&bits, &published_[row + ((byte / 16 ^ row / ROW % 8) * 16 + byte % 16)], operand.element_bytes);
      to[k * operand.rows + r] = value_of(format, bits);
    }
}

// to[k][row] of A in registers.
void Async::decode(const Multiplication& product, float* to) {
  for (uint32_t t = 0; t < WARPGROUP; t++)
    for (uint32_t i = 0; i < 8; i++) {
      const uint32_t row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, k = t % 4 * 2 + i / 4 * 8 + i % 2;
      to[k * TILE + row] = value_of(product.operands.format, product.fragments[t][i / 2] >> i % 2 * 16 & 0xffff);
    }
}

std::string Async::execute(uint32_t warpgroup, uint32_t number) {
  Multiplication& product = products_[warpgroup][number];
  if (std::exchange(product.done, true)) return "";
  if (const Problem problem = check_operands(product); !problem.empty())
    return problem + "; the wgmma that reads it has not been waited for";
  const uint32_t columns = 2 * product.count, depth = depth_of(product.operands.format);
  std::vector<float> a(depth * TILE), b(depth * columns), c(TILE * columns, 0.0f);
  if (product.operands.registers)
    decode(product, a.data());
  else
    decode(product.a(), product.operands.format, a.data());
  decode(product.b(), product.operands.format, b.data());
  // Products are exact in f32; the device sums them in an order and with roundings of its own.
  for (uint32_t m = 0; m < TILE; m++)
    for (uint32_t k = 0; k < depth; k++) {
      const float left = a[k * TILE + m];
      float* __restrict__ sum = &c[m * columns];
      const float* __restrict__ right = &b[k * columns];
      for (uint32_t n = 0; n < columns; n++) sum[n] += left * right[n];
    }
  for (uint32_t t = 0; t < WARPGROUP; t++) {
    ThreadState& state = threads_[warpgroup * WARPGROUP + t];
    const auto sums = std::find_if(state.sums.begin(), state.sums.end(),
                                   [&](const Sums& one) { return one.registers == state.registers[number]; });
    const uint32_t row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
    for (uint32_t i = 0; i < product.count; i++) {
      const float part = c[(row + i / 2 % 2 * 8) * columns + i / 4 * 8 + column + i % 2];
      sums->value[i] = product.operands.add ? sums->value[i] + part : part;
    }
  }
  return "";
}

uint32_t Async::target(uint32_t thread, uint32_t pending) const {
  const ThreadState& state = threads_[thread];
  const size_t groups = state.groups.size();
  return groups <= pending ? state.taken : state.groups[groups - pending - 1];
}

bool Async::multiplied(uint32_t thread, uint32_t target) const {
  const std::vector<Multiplication>& products = products_[thread / WARPGROUP];
  return target == 0 || products[target - 1].arrived == WARPGROUP;
}

std::string Async::take(uint32_t thread, uint32_t target) {
  ThreadState& state = threads_[thread];
  for (uint32_t i = state.taken; i < target; i++)
    if (const Problem problem = execute(thread / WARPGROUP, i); !problem.empty()) return problem;
  state.taken = std::max(state.taken, target);
  std::erase_if(state.groups, [&](uint32_t end) { return end <= target; });
  state.fenced = false;
  for (const Fragment& fragment : state.fragments)
    if (fragment.product < target && !std::equal(fragment.value.begin(), fragment.value.end(), fragment.registers))
      return "the registers of A were written before their wgmma was waited for";
  std::erase_if(state.fragments, [&](const Fragment& fragment) { return fragment.product < target; });
  for (auto sums = state.sums.begin(); sums != state.sums.end();) {
    if (sums->last >= target) {
      sums++;
      continue;
    }
    const auto* registers = reinterpret_cast<const uint32_t*>(sums->registers);
    if (!std::all_of(registers, registers + sums->count, [](uint32_t word) { return word == POISON; }))
      return "the sums of a wgmma were written before it was waited for";
    std::memcpy(sums->registers, sums->value.data(), sums->count * sizeof(float));
    sums = state.sums.erase(sums);
  }
  return "";
}

}  // namespace simt

#pragma GCC visibility pop
