#include "progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long to go on asking without a pause: longer than a megabyte takes to cross. Yields meanwhile, since there may be
// more ranks than cores.
constexpr microseconds kSpin{250};
// Then pauses are an eighth of the time waited so far, so that they add little to it, within these bounds.
constexpr microseconds kShortest{50}, kLongest{500};
// With nothing asked for, MPI is still called now and then: it may have taken bytes from a send that it has yet to
// pass on, and does so only inside a call.
constexpr microseconds kLongestIdle{10000};

std::string failure_text(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<size_t>(length));
}

}  // namespace

void OperationList::push(Operation* operation) {
  operation->next = nullptr;
  (last ? last->next : first) = operation;
  last = operation;
}

Operation* OperationList::pop() {
  Operation* operation = first;
  if (operation) first = operation->next;
  if (!first) last = nullptr;
  return operation;
}

Progress::Progress(size_t piece_bytes, std::function<void()> notify)
    : piece_bytes_(piece_bytes), notify_(std::move(notify)) {}

void Progress::start() {
  running_ = true;
  thread_ = std::thread([this] {
    run();
    running_ = false;
  });
}

void Progress::submit(Operation* operation) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    submitted_.push(operation);
  }
  changed_.notify_one();
}

OperationList Progress::take_finished() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(finished_, {});
}

void Progress::finish(Operation* operation) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_.push(operation);
  }
  notify_();
}

void Progress::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (blocked_)
    thread_.detach();
  else
    thread_.join();
}

void Progress::abort(int code) {
  abort_code_ = code;
  changed_.notify_one();
  // MPI_Abort ends the process from the progress thread. Where it can't, because MPI was left or the thread waits inside
  // it, the launcher sees the exit.
  const steady_clock::time_point latest = steady_clock::now() + std::chrono::seconds(2);
  while (running_ && steady_clock::now() < latest) std::this_thread::sleep_for(milliseconds(1));
  _exit(code);
}

void Progress::run() {
  blocked_ = true;
  initialise();
  blocked_ = false;
  last_move_ = steady_clock::now();
  while (!left_) {
    OperationList fresh;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
      fresh = std::exchange(submitted_, {});
    }
    if (abort_code_ >= 0) MPI_Abort(MPI_COMM_WORLD, abort_code_);
    bool moved = fresh.first != nullptr;
    while (Operation* operation = fresh.pop()) begin(operation);
    // After a pause twice: Open MPI finds what has arrived only in the call after the one that takes it in.
    if (poll() || (paused_ && poll())) moved = true;
    if (!left_) rest(moved);
  }
}

void Progress::initialise() {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_.size);
  int* highest = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &highest, &found);
  // 32767 is the least that MPI promises.
  world_.channels = int64_t{found ? *highest : 32767} + 1;
}

void Progress::begin(Operation* operation) {
  switch (operation->kind) {
    case Operation::Kind::open:
      finish(operation);
      break;
    case Operation::Kind::send:
      begin_send(operation);
      break;
    case Operation::Kind::close:
      closing_ = operation;
      break;
    case Operation::Kind::receive: {
      const uint64_t key = uint64_t(uint32_t(operation->peer)) << 32 | uint32_t(operation->channel);
      std::unique_ptr<Channel>& channel = channels_[key];
      if (!channel) {
        channel = std::make_unique<Channel>();
        channel->peer = operation->peer;
        channel->channel = operation->channel;
      }
      if (!channel->waiting.first) receiving_.push_back(channel.get());
      channel->waiting.push(operation);
      break;
    }
  }
}

// All pieces at once: a later message of the channel must not come between them.
void Progress::begin_send(Operation* operation) {
  operation->got = operation->bytes;
  for (size_t at = 0; at <= operation->bytes && operation->failure.empty(); at += piece_bytes_) {
    const size_t count = std::min(piece_bytes_, operation->bytes - at);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Isend(operation->data + at, static_cast<int>(count), MPI_BYTE, operation->peer,
                               operation->channel, MPI_COMM_WORLD, &request);
    if (code != MPI_SUCCESS) {
      operation->failure = failure_text(code);
    } else {
      sends_.push_back({request, operation});
      operation->pieces++;
    }
  }
  if (operation->pieces == 0) finish(operation);
}

bool Progress::poll() {
  bool moved = poll_sends();
  for (size_t i = 0; i < receiving_.size();) {
    Channel* channel = receiving_[i];
    while (channel->waiting.first && poll_channel(*channel)) moved = true;
    if (channel->waiting.first) {
      i++;
    } else {
      receiving_[i] = receiving_.back();
      receiving_.pop_back();
    }
  }
  if (closing_ && sends_.empty() && poll_close()) moved = true;
  return moved;
}

bool Progress::poll_sends() {
  bool moved = false;
  for (size_t i = 0; i < sends_.size();) {
    Sending& sending = sends_[i];
    int done = 0;
    const int code = MPI_Test(&sending.request, &done, MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS && !done) {
      i++;
      continue;
    }
    if (code != MPI_SUCCESS) sending.operation->failure = failure_text(code);
    if (--sending.operation->pieces == 0) finish(sending.operation);
    sending = sends_.back();
    sends_.pop_back();
    moved = true;
  }
  return moved;
}

// One piece further; false when there is nothing to do yet.
bool Progress::poll_channel(Channel& channel) {
  Operation* operation = channel.waiting.first;
  int code = MPI_SUCCESS, ready = 0;
  if (channel.request == MPI_REQUEST_NULL) {
    MPI_Message message;
    MPI_Status status;
    code = MPI_Improbe(channel.peer, channel.channel, MPI_COMM_WORLD, &ready, &message, &status);
    if (code == MPI_SUCCESS && !ready) return false;
    if (code == MPI_SUCCESS) {
      int count = 0;
      MPI_Get_count(&status, MPI_BYTE, &count);
      const size_t length = static_cast<size_t>(count);
      uint8_t* to = operation->data + operation->got;
      if (operation->got + length > operation->bytes) {
        channel.excess.resize(length);
        to = channel.excess.data();
      }
      operation->got += length;
      channel.last_piece = length < piece_bytes_;
      code = MPI_Imrecv(to, count, MPI_BYTE, &message, &channel.request);
    }
  }
  if (code == MPI_SUCCESS) {
    code = MPI_Test(&channel.request, &ready, MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS && !ready) return false;
  }
  if (code == MPI_SUCCESS && !channel.last_piece) return true;
  if (code != MPI_SUCCESS) operation->failure = failure_text(code);
  channel.excess = {};
  finish(channel.waiting.pop());
  return true;
}

bool Progress::poll_close() {
  int done = 0, code = MPI_SUCCESS;
  if (barrier_ == MPI_REQUEST_NULL) code = MPI_Ibarrier(MPI_COMM_WORLD, &barrier_);
  if (code == MPI_SUCCESS) code = MPI_Test(&barrier_, &done, MPI_STATUS_IGNORE);
  if (code == MPI_SUCCESS && !done) return false;
  if (code == MPI_SUCCESS) {
    blocked_ = true;
    code = MPI_Finalize();
    blocked_ = false;
  }
  if (code != MPI_SUCCESS) closing_->failure = failure_text(code);
  left_ = true;
  finish(std::exchange(closing_, nullptr));
  return true;
}

void Progress::rest(bool moved) {
  const steady_clock::time_point now = steady_clock::now();
  if (moved) last_move_ = now;
  const steady_clock::duration waited = now - last_move_;
  paused_ = waited >= kSpin;
  if (!paused_) {
    std::this_thread::yield();
    return;
  }
  if (idle()) {
    int found = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
  }
  const steady_clock::duration longest = idle() ? kLongestIdle : kLongest;
  const steady_clock::duration pause = std::clamp<steady_clock::duration>(waited / 8, kShortest, longest);
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, pause, [this] { return submitted_.first || stopping_ || abort_code_ >= 0; });
}
