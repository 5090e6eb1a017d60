// Moving the messages of a group: all sends and receives progress together. A message is a header and its bytes; the
// receiver answers with how many bytes it wanted, which ends the send.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include "communicator.h"

#pragma GCC visibility push(hidden)

namespace nccl {

template <class Number>
static std::string text(Number number) {
  return std::to_string(number);
}

// One direction of a pair: its messages, one after the other.
struct Lane {
  bool sends;
  int peer, file;
  std::deque<const Message*> messages;
  // Bytes of header, message and receipt that have gone, of the first message.
  size_t done = 0;
  uint64_t header = 0, receipt = 0;
};

class Moving {
 public:
  Moving(Communicator& communicator, const Group& group) : self_(communicator) {
    for (const bool sends : {true, false})
      for (const Message& message : sends ? group.sends : group.receives)
        if (message.peer == self_.rank)
          (sends ? own_sends_ : own_receives_).push_back(&message);
        else
          lane(sends, message.peer).messages.push_back(&message);
  }

  void run() {
    copy_own();
    auto last = std::chrono::steady_clock::now();
    while (!finished()) {
      if (self_.aborted()) return;
      bool moved = false;
      for (Lane& lane : lanes_)
        while (!lane.messages.empty() && step(lane)) moved = true;
      const auto now = std::chrono::steady_clock::now();
      if (moved) last = now;
      if (std::chrono::duration<double>(now - last).count() > timeout_seconds())
        throw Failure{ncclRemoteError, "for " + seconds_text() + " " + waiting()};
      if (!moved) sleep();
    }
  }

 private:
  Lane& lane(bool sends, int peer) {
    for (Lane& lane : lanes_)
      if (lane.sends == sends && lane.peer == peer) return lane;
    const Peer& other = self_.peers_[static_cast<size_t>(peer)];
    lanes_.push_back({sends, peer, (sends ? other.out : other.in).number(), {}, 0, 0, 0});
    return lanes_.back();
  }

  void copy_own() {
    if (own_sends_.size() != own_receives_.size())
      throw Failure{ncclInvalidUsage, "member " + text(self_.rank) + " sends itself " + text(own_sends_.size()) +
                                        " messages and takes " + text(own_receives_.size())};
    for (size_t i = 0; i < own_sends_.size(); i++) {
      if (own_sends_[i]->bytes != own_receives_[i]->bytes)
        throw Failure{ncclInvalidUsage, "member " + text(self_.rank) + " sends itself " + text(own_sends_[i]->bytes) +
                                          " bytes and takes " + text(own_receives_[i]->bytes)};
      std::memmove(own_receives_[i]->address, own_sends_[i]->address, own_sends_[i]->bytes);
    }
  }

  bool finished() const {
    for (const Lane& lane : lanes_)
      if (!lane.messages.empty()) return false;
    return true;
  }

  // Moves a part of `bytes` that begins at lane.done - `before`; whether anything moved.
  bool transfer(Lane& lane, bool out, void* data, size_t bytes, size_t before) {
    unsigned char* at = static_cast<unsigned char*>(data) + (lane.done - before);
    const size_t left = bytes - (lane.done - before);
    const ssize_t count = out ? send(lane.file, at, left, MSG_NOSIGNAL) : recv(lane.file, at, left, 0);
    if (count > 0) {
      lane.done += static_cast<size_t>(count);
      return true;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    throw Failure{ncclRemoteError, "member " + text(lane.peer) + " (process " +
                                     text(self_.peers_[static_cast<size_t>(lane.peer)].process) + ") is gone"};
  }

  // A step of the lane's first message: header, bytes, receipt. Whether anything moved.
  bool step(Lane& lane) {
    const Message& message = *lane.messages.front();
    constexpr size_t word = sizeof(uint64_t);
    if (lane.done < word) {
      if (lane.sends) lane.header = message.bytes;
      return transfer(lane, lane.sends, &lane.header, word, 0);
    }
    // Of a message of another size nothing is taken.
    const size_t bytes = lane.header == message.bytes ? message.bytes : 0;
    if (!lane.sends && lane.done == word) lane.receipt = message.bytes;
    if (lane.done < word + bytes && !mismatch_is_answered(lane))
      return transfer(lane, lane.sends, message.address, bytes, word);
    if (!transfer(lane, !lane.sends, &lane.receipt, word, word + bytes)) return false;
    if (lane.done < word + bytes + word) return true;
    const uint64_t sent = lane.header, wanted = lane.receipt;
    if (sent != wanted) {
      const int from = lane.sends ? self_.rank : lane.peer, to = lane.sends ? lane.peer : self_.rank;
      throw Failure{ncclInvalidUsage, "member " + text(from) + " sends " + text(sent) +
                                        " bytes, member " + text(to) + " receives " +
                                        text(wanted)};
    }
    lane.messages.pop_front();
    lane.done = 0;
    return true;
  }

  // A receiver that wants another size answers at once, while the bytes are on their way.
  bool mismatch_is_answered(Lane& lane) {
    if (!lane.sends) return false;
    uint64_t wanted;
    const ssize_t count = recv(lane.file, &wanted, sizeof wanted, MSG_PEEK);
    if (count != sizeof wanted || wanted == lane.header) return false;
    lane.done = sizeof(uint64_t) + lane.messages.front()->bytes;
    return true;
  }

  std::string waiting() const {
    std::string all = "member " + text(self_.rank) + " waits for";
    const char* separator = " ";
    for (const Lane& lane : lanes_)
      if (!lane.messages.empty()) {
        all += separator + ("member " + text(lane.peer)) + " to " +
               (lane.sends ? "receive " : "send ") + text(lane.messages.front()->bytes) + " bytes";
        separator = " and ";
      }
    return all;
  }

  void sleep() const {
    std::vector<pollfd> files = {{self_.wake_.number(), POLLIN, 0}};
    for (const Lane& lane : lanes_) {
      if (lane.messages.empty()) continue;
      const bool writes = lane.sends && lane.done < sizeof(uint64_t) + lane.messages.front()->bytes;
      files.push_back({lane.file, static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN), 0});
    }
    poll(files.data(), files.size(), 100);
  }

  Communicator& self_;
  // Not moved while they are in use.
  std::deque<Lane> lanes_;
  std::vector<const Message*> own_sends_, own_receives_;
};

void Communicator::run(const Group& group) {
  bool alone;
  {
    const std::lock_guard lock(mutex_);
    // What was launched before the abort ends at once, as NCCL's kernels do.
    if (aborted_) return;
    alone = running_++ == 0;
  }
  try {
    if (!alone) throw Failure{ncclInvalidUsage, "two operations of one communicator run at a time"};
    if (const ncclResult_t earlier = state(); earlier != ncclSuccess && earlier != ncclInProgress)
      throw Failure{earlier, message()};
    Moving(*this, group).run();
  } catch (const Failure& failure) {
    set_state(failure.result, failure.message);
    pollfd wait = {wake_.number(), POLLIN, 0};
    while (!aborted_) poll(&wait, 1, -1);
  }
  const std::lock_guard lock(mutex_);
  running_--;
  changed_.notify_all();
}

}  // namespace nccl

#pragma GCC visibility pop
