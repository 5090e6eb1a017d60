#include "order.h"
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <numeric>

#pragma GCC visibility push(hidden)

namespace simt {

std::optional<Order> parse_order(std::string_view text) {
  if (text == "forward") return Order{Order::forward, 0};
  if (text == "reverse") return Order{Order::reverse, 0};
  constexpr std::string_view prefix = "shuffle:";
  if (!text.starts_with(prefix)) return std::nullopt;
  Order order{Order::shuffle, 0};
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + prefix.size(), end, order.seed);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return order;
}

static std::mutex order_mutex;
static std::optional<Order> current_order;

Order thread_order() {
  const std::lock_guard lock(order_mutex);
  if (!current_order) {
    const char* text = std::getenv("EXACTMAP_EMULATED_ORDER");
    current_order = parse_order(text ? text : "forward").value_or(Order{});
  }
  return *current_order;
}

void set_thread_order(Order order) {
  const std::lock_guard lock(order_mutex);
  current_order = order;
}

Permutation::Permutation(Order order, uint64_t count) : count_(count) {
  if (order.pattern == Order::forward || count < 2) return;
  if (order.pattern == Order::reverse) {
    factor_ = offset_ = count - 1;
    return;
  }
  Random random(order.seed);
  do factor_ = 1 + random.below(count - 1);
  while (std::gcd(factor_, count) != 1);
  offset_ = random.below(count);
}

}  // namespace simt
