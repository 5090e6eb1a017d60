// The emulated NCCL: sends and receives between ranks on one machine, in one process or in several. Every ordered pair
// of ranks has a socket in Linux's abstract namespace, whose names hold the unique id: the kernel removes them with the
// process that made them, and the end of a process is seen at once.
//
// It is stricter than NCCL is: a send ends only when its bytes have been received, so that nothing hangs on buffers;
// and what would hang or corrupt memory there (sizes that differ, a peer that does not come or is gone) is an error
// that names the members. As with NCCL, an operation that failed goes on until its communicator is aborted.
//
//   EXACTMAP_EMULATED_NCCL_TIMEOUT   seconds that a rank waits for its peers; 120
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include "../../runtime/nccl_api.h"

#pragma GCC visibility push(hidden)

namespace nccl {

// A descriptor that is closed with its owner.
class File {
 public:
  explicit File(int number = -1) : number_(number) {}
  File(File&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  File& operator=(File&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~File();
  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

// The two sockets of a pair of ranks: each carries messages one way and their receipts the other.
struct Peer {
  File out, in;
  int process = 0;
};

struct Message {
  int peer;
  unsigned char* address;
  size_t bytes;
};

// A group of messages on one stream.
struct Group {
  std::vector<Message> sends, receives;
};

class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  Communicator(std::string name, int size, int rank, int device);
  ~Communicator();
  const int size, rank, device;

  // Connects to all others; returns when that is done, has failed or was aborted.
  void connect();
  // Moves the messages of a group. After an error it waits for the abort.
  void run(const Group& group);
  // Ends what runs and closes the sockets: peers that wait for this rank see that it is gone.
  void abort();

  ncclResult_t state();
  std::string message();
  void set_state(ncclResult_t state, const std::string& message = "");
  bool aborted() const { return aborted_; }

 private:
  friend class Connecting;
  friend class Moving;
  const std::string name_;
  std::vector<Peer> peers_;
  // Readable once the communicator is aborted.
  File wake_;
  std::atomic<bool> aborted_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
  ncclResult_t state_ = ncclSuccess;
  std::string message_;
};

// What a rank gives up with.
struct Failure {
  ncclResult_t result;
  std::string message;
};

double timeout_seconds();
std::string seconds_text();

}  // namespace nccl

#pragma GCC visibility pop
