// Making the sockets of a communicator: every rank listens under its own name, connects to the others and accepts them.
// Both ends say who they are, so that a wrong count of ranks or a device given twice is known on both sides.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include "communicator.h"

#pragma GCC visibility push(hidden)

namespace nccl {

struct Hello {
  uint32_t magic;
  int32_t size, rank, process, device;
};
constexpr uint32_t HELLO = 0x4c43434e;

class Connecting {
 public:
  explicit Connecting(Communicator& communicator) : self_(communicator), calls_(communicator.peers_.size()) {}

  void run() {
    listen();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_seconds());
    while (left() > 0) {
      if (self_.aborted()) throw Failure{ncclInvalidUsage, "aborted"};
      if (std::chrono::steady_clock::now() > deadline)
        throw Failure{ncclRemoteError, "member " + std::to_string(self_.rank) + " of " + std::to_string(self_.size) +
                                         " waited " + seconds_text() + " for members " + missing()};
      for (int peer = 0; peer < self_.size; peer++) {
        call(peer);
        read_answer(peer);
      }
      accept();
      answer();
      pollfd wait[] = {{listener_.number(), POLLIN, 0}, {self_.wake_.number(), POLLIN, 0}};
      poll(wait, 2, 2);
    }
  }

 private:
  // Calls until the other one listens, then waits for its answer.
  struct Call {
    File file;
    bool answered = false;
  };

  sockaddr_un address(int rank, socklen_t& length) const {
    const std::string name = "exactmap-nccl-" + self_.name_ + "-" + std::to_string(rank);
    sockaddr_un made{};
    made.sun_family = AF_UNIX;
    std::memcpy(made.sun_path + 1, name.data(), name.size());
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return made;
  }

  static File make_socket() { return File(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

  void listen() {
    listener_ = make_socket();
    socklen_t length;
    const sockaddr_un own = address(self_.rank, length);
    if (!listener_) throw Failure{ncclSystemError, std::strerror(errno)};
    if (bind(listener_.number(), reinterpret_cast<const sockaddr*>(&own), length) != 0)
      throw Failure{ncclInvalidUsage, "member " + std::to_string(self_.rank) + " is there twice"};
    if (::listen(listener_.number(), 4096) != 0) throw Failure{ncclSystemError, std::strerror(errno)};
  }

  Hello own() const { return {HELLO, self_.size, self_.rank, getpid(), self_.device}; }

  // Also refuses a peer that has another idea of the communicator.
  void check(const Hello& hello, int rank) const {
    if (hello.magic != HELLO) throw Failure{ncclInternalError, "a peer is another version of the emulated NCCL"};
    if (hello.size != self_.size)
      throw Failure{ncclInvalidUsage, "member " + std::to_string(self_.rank) + " says there are " +
                                        std::to_string(self_.size) + ", member " + std::to_string(hello.rank) +
                                        " says " + std::to_string(hello.size)};
    if (hello.rank < 0 || hello.rank >= self_.size || hello.rank == self_.rank || (rank >= 0 && hello.rank != rank))
      throw Failure{ncclInvalidUsage, "a peer says it is member " + std::to_string(hello.rank)};
    if (hello.process == getpid() && hello.device == self_.device)
      throw Failure{ncclInvalidUsage, "members " + std::to_string(self_.rank) + " and " + std::to_string(hello.rank) +
                                        " are both on device " + std::to_string(self_.device)};
  }

  void call(int peer) {
    Call& one = calls_[static_cast<size_t>(peer)];
    if (peer == self_.rank || one.file || one.answered) return;
    File file = make_socket();
    socklen_t length;
    const sockaddr_un other = address(peer, length);
    if (!file || connect(file.number(), reinterpret_cast<const sockaddr*>(&other), length) != 0) return;
    const Hello hello = own();
    if (send(file.number(), &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello) one.file = std::move(file);
  }

  void read_answer(int peer) {
    Call& one = calls_[static_cast<size_t>(peer)];
    Hello hello;
    if (!one.file || one.answered) return;
    const ssize_t got = recv(one.file.number(), &hello, sizeof hello, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
      throw Failure{ncclRemoteError, "member " + std::to_string(peer) + " left while it connected"};
    if (got < 0) return;
    check(hello, peer);
    one.answered = true;
    self_.peers_[static_cast<size_t>(peer)].process = hello.process;
    self_.peers_[static_cast<size_t>(peer)].out = std::move(one.file);
  }

  void accept() {
    File file(accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (file) callers_.push_back(std::move(file));
  }

  void answer() {
    for (File& caller : callers_) {
      Hello hello;
      if (!caller) continue;
      const ssize_t got = recv(caller.number(), &hello, sizeof hello, 0);
      if (got != sizeof hello) {
        // One that has left without a word was told elsewhere why.
        if (got == 0) File gone = std::move(caller);
        continue;
      }
      const Hello mine = own();
      if (send(caller.number(), &mine, sizeof mine, MSG_NOSIGNAL) != sizeof mine) continue;
      check(hello, -1);
      if (self_.peers_[static_cast<size_t>(hello.rank)].in)
        throw Failure{ncclInvalidUsage, "member " + std::to_string(hello.rank) + " is there twice"};
      self_.peers_[static_cast<size_t>(hello.rank)].in = std::move(caller);
    }
  }

  int left() const {
    int count = 0;
    for (int peer = 0; peer < self_.size; peer++) count += is_missing(peer);
    return count;
  }
  bool is_missing(int peer) const {
    const Peer& one = self_.peers_[static_cast<size_t>(peer)];
    return peer != self_.rank && (!one.out || !one.in);
  }
  std::string missing() const {
    std::string text;
    for (int peer = 0; peer < self_.size; peer++)
      if (is_missing(peer)) text += (text.empty() ? "" : ", ") + std::to_string(peer);
    return text;
  }

  Communicator& self_;
  File listener_;
  std::vector<Call> calls_;
  std::vector<File> callers_;
};

void Communicator::connect() {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
    running_++;
  }
  try {
    Connecting(*this).run();
    set_state(ncclSuccess);
  } catch (const Failure& failure) {
    set_state(failure.result, failure.message);
  }
  const std::lock_guard lock(mutex_);
  running_--;
  changed_.notify_all();
}

}  // namespace nccl

#pragma GCC visibility pop
