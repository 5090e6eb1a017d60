// Products of warpgroups: as soon as all threads have issued one it is computed, and nobody sees it before they wait.
#include <algorithm>
#include <cmath>
#include <cstring>
#include "async.h"

#pragma GCC visibility push(hidden)

namespace simt {

constexpr uint32_t DEPTH = 16, SWIZZLE_128 = 1, TILE = 64;
constexpr uint32_t POISON = 0xffffffffu;

static std::string text(uint64_t number) { return std::to_string(number); }

// Fields of a matrix descriptor (PTX ISA).
static uint32_t start_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor & 0x3fff) << 4; }
static uint32_t stride_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4; }
static uint32_t swizzle_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 62); }
static uint32_t base_offset_of(uint64_t descriptor) { return static_cast<uint32_t>(descriptor >> 49 & 7); }

// Rows have 128 bytes, eight of them are a pattern, and patterns are the stride apart.
uint32_t Async::operand_row(uint64_t descriptor, uint32_t row) {
  return (start_of(descriptor) & ~127u) - FIRST_ADDRESS + row / 8 * stride_of(descriptor) + row % 8 * ROW;
}

std::string Async::check_operand(uint64_t descriptor, uint32_t rows) const {
  if (swizzle_of(descriptor) != SWIZZLE_128 || base_offset_of(descriptor) != 0)
    return "the emulation knows operands with the swizzle of 128 bytes and base offset 0 only";
  const uint32_t start = start_of(descriptor);
  if (start % PATTERN >= ROW)
    return "an operand starts at address " + text(start) + ", not in the first row of a pattern";
  if (start % ROW > ROW - 2 * DEPTH) return "an operand's 16 elements leave their row of 128 bytes";
  if (stride_of(descriptor) % PATTERN != 0)
    return "an operand's patterns are " + text(stride_of(descriptor)) + " bytes apart, no multiple of 1024";
  for (uint32_t r = 0; r < rows; r++) {
    const uint32_t at = operand_row(descriptor, r);
    if (start < FIRST_ADDRESS || at >= bytes_) return "an operand leaves the dynamic shared memory";
    if (rows_[at / ROW] == Row::coming)
      return "row " + text(r) + " of an operand is still being copied: no thread has waited for its mbarrier";
    if (rows_[at / ROW] == Row::other) return "row " + text(r) + " of an operand was not written by a copy";
  }
  return "";
}

std::string Async::multiply(uint32_t thread, float* registers, uint32_t count, uint64_t a, uint64_t b, bool bf16,
                            bool add) {
  const uint32_t warpgroup = thread / WARPGROUP;
  if (warpgroup >= products_.size()) return "the thread is in no whole warpgroup";
  ThreadState& state = threads_[thread];
  std::vector<Multiplication>& products = products_[warpgroup];
  if (state.issued == products.size()) {
    products.push_back({a, b, count, bf16, add, 0});
    std::string wrong = check_operand(a, TILE);
    if (wrong.empty()) wrong = check_operand(b, 2 * count);
    if (!wrong.empty()) return wrong;
  }
  Multiplication& product = products[state.issued];
  if (product.a != a || product.b != b || product.count != count || product.bf16 != bf16 || product.add != add)
    return "the threads of a warpgroup issue different wgmma";
  auto sums = std::find_if(state.sums.begin(), state.sums.end(),
                           [&](const Sums& one) { return one.registers == registers; });
  if (sums == state.sums.end()) {
    if (!state.fenced) return "wgmma without a wgmma_fence since its registers were free";
    sums = state.sums.insert(sums, {registers, count, 0, {}});
    std::memcpy(sums->value.data(), registers, count * sizeof(float));
    std::fill_n(reinterpret_cast<uint32_t*>(registers), count, POISON);
  }
  sums->last = state.issued++;
  state.registers.push_back(registers);
  if (++product.arrived == WARPGROUP) execute(warpgroup, product);
  return "";
}

static float f16_value(uint32_t bits) {
  const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float whole = static_cast<float>(exponent == 0 ? mantissa : mantissa + 1024);
  const float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                                         : std::ldexp(whole, exponent == 0 ? -24 : static_cast<int>(exponent) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

static float bf16_value(uint32_t bits) {
  const uint32_t word = bits << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// to[k][row]
void Async::decode(uint64_t descriptor, uint32_t rows, bool bf16, float* to) const {
  for (uint32_t r = 0; r < rows; r++) {
    const uint32_t row = operand_row(descriptor, r);
    for (uint32_t k = 0; k < DEPTH; k++) {
      const uint32_t byte = start_of(descriptor) % ROW + 2 * k;
      uint16_t bits;
      std::memcpy(&bits, memory_ + row + ((byte / 16 ^ row / ROW % 8) * 16 + byte % 16), sizeof bits);
      to[k * rows + r] = bf16 ? bf16_value(bits) : f16_value(bits);
    }
  }
}

void Async::execute(uint32_t warpgroup, const Multiplication& product) {
  const uint32_t columns = 2 * product.count;
  std::vector<float> a(DEPTH * TILE), b(DEPTH * columns), c(TILE * columns, 0.0f);
  decode(product.a, TILE, product.bf16, a.data());
  decode(product.b, columns, product.bf16, b.data());
  // Products are exact in f32; the device sums them in an order and with roundings of its own.
  for (uint32_t m = 0; m < TILE; m++)
    for (uint32_t k = 0; k < DEPTH; k++) {
      const float left = a[k * TILE + m];
      float* __restrict__ sum = &c[m * columns];
      const float* __restrict__ right = &b[k * columns];
      for (uint32_t n = 0; n < columns; n++) sum[n] += left * right[n];
    }
  const uint32_t number = static_cast<uint32_t>(&product - products_[warpgroup].data());
  for (uint32_t t = 0; t < WARPGROUP; t++) {
    ThreadState& state = threads_[warpgroup * WARPGROUP + t];
    const auto sums = std::find_if(state.sums.begin(), state.sums.end(),
                                   [&](const Sums& one) { return one.registers == state.registers[number]; });
    const uint32_t row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
    for (uint32_t i = 0; i < product.count; i++) {
      const float part = c[(row + i / 2 % 2 * 8) * columns + i / 4 * 8 + column + i % 2];
      sums->value[i] = product.add ? sums->value[i] + part : part;
    }
  }
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
  state.taken = std::max(state.taken, target);
  std::erase_if(state.groups, [&](uint32_t end) { return end <= target; });
  state.fenced = false;
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
