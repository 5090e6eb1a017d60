// All calls of MPI, on one thread: it starts and tests what was asked for, and ends with MPI.
#pragma once
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

// One call from JavaScript, until it is answered. Records are used again: a message allocates nothing here.
struct Operation {
  enum class Kind : uint8_t { open, send, receive, close };
  Kind kind = Kind::open;
  int peer = 0, channel = 0;
  int64_t id = 0;
  uint8_t* data = nullptr;
  size_t bytes = 0;
  // Length of the message, for a receive whatever `bytes` says.
  size_t got = 0;
  size_t pieces = 0;
  // What MPI said; empty when all is well.
  std::string failure;
  Operation* next = nullptr;
};

// First in, first out, linked through the records.
struct OperationList {
  Operation* first = nullptr;
  Operation* last = nullptr;
  void push(Operation* operation);
  Operation* pop();
};

struct World {
  int rank = 0, size = 1;
  // Channels are MPI's tags, numbered below this.
  int64_t channels = 0;
};

class Progress {
 public:
  // Messages travel in pieces of `piece_bytes` and a last, shorter one, which may be empty: MPI counts in int, and a
  // receiver needs no length beforehand. `notify` is called on the progress thread when something is finished.
  Progress(size_t piece_bytes, std::function<void()> notify);
  void start();
  void submit(Operation* operation);
  OperationList take_finished();
  const World& world() const { return world_; }
  // Ends the thread, and leaves MPI as it is: for a process that ends without closing.
  void stop();
  // Ends all ranks.
  [[noreturn]] void abort(int code);

 private:
  struct Sending {
    MPI_Request request;
    Operation* operation;
  };
  // Receives of one channel, of which the first looks for its message.
  struct Channel {
    int peer = 0, channel = 0;
    OperationList waiting;
    MPI_Request request = MPI_REQUEST_NULL;
    bool last_piece = false;
    // Takes what does not fit.
    std::vector<uint8_t> excess;
  };

  void run();
  void initialise();
  void begin(Operation* operation);
  void begin_send(Operation* operation);
  bool poll();
  bool poll_sends();
  bool poll_channel(Channel& channel);
  bool poll_close();
  bool idle() const { return sends_.empty() && receiving_.empty() && !closing_; }
  void rest(bool moved);
  void finish(Operation* operation);

  const size_t piece_bytes_;
  const std::function<void()> notify_;
  World world_;
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  OperationList submitted_, finished_;
  bool stopping_ = false;
  std::atomic<int> abort_code_{-1};
  std::atomic<bool> running_{false};
  // Whether the thread is inside a call that may never return.
  std::atomic<bool> blocked_{false};

  // Of the progress thread alone.
  std::vector<Sending> sends_;
  std::unordered_map<uint64_t, std::unique_ptr<Channel>> channels_;
  std::vector<Channel*> receiving_;
  Operation* closing_ = nullptr;
  MPI_Request barrier_ = MPI_REQUEST_NULL;
  bool left_ = false, paused_ = false;
  std::chrono::steady_clock::time_point last_move_;
};
