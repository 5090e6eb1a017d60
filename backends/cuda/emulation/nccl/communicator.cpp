#include "communicator.h"
#include <sys/eventfd.h>
#include <unistd.h>
#include <cstdint>
#include <cstdlib>

#pragma GCC visibility push(hidden)

namespace nccl {

File::~File() {
  if (number_ >= 0) close(number_);
}

double timeout_seconds() {
  const char* text = std::getenv("EXACTMAP_EMULATED_NCCL_TIMEOUT");
  const double given = text ? std::atof(text) : 0;
  return given > 0 ? given : 120;
}

std::string seconds_text() {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", timeout_seconds());
  return text;
}

Communicator::Communicator(std::string name, int size, int rank, int device)
    : size(size),
      rank(rank),
      device(device),
      name_(std::move(name)),
      peers_(static_cast<size_t>(size)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Communicator::~Communicator() = default;

ncclResult_t Communicator::state() {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::string Communicator::message() {
  const std::lock_guard lock(mutex_);
  return message_;
}

// The first error stays.
void Communicator::set_state(ncclResult_t state, const std::string& message) {
  const std::lock_guard lock(mutex_);
  if (state_ != ncclSuccess && state_ != ncclInProgress) return;
  state_ = state;
  message_ = message;
}

void Communicator::abort() {
  std::unique_lock lock(mutex_);
  aborted_ = true;
  const uint64_t one = 1;
  // The counter can't overflow: there is one abort.
  if (write(wake_.number(), &one, sizeof one) < 0) std::abort();
  changed_.notify_all();
  changed_.wait(lock, [&] { return running_ == 0; });
  peers_.clear();
}

}  // namespace nccl

#pragma GCC visibility pop
