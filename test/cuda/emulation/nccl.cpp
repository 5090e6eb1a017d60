// Checks of the emulated NCCL through its C API, with ranks on devices of one process.
#include <chrono>
#include <thread>
#include "../../../backends/cuda/runtime/nccl_api.h"
#include "checks.h"

#define DECLARE(name, result, arguments) static result(*name) arguments;
NCCL_API(DECLARE)
#undef DECLARE

static void open_nccl() {
  void* library = dlopen(std::getenv("NCCL"), RTLD_NOW | RTLD_LOCAL);
  if (!library) std::exit((std::fprintf(stderr, "%s\n", dlerror()), 2));
#define FIND(name, result, arguments) find_symbol(library, #name, name);
  NCCL_API(FIND)
#undef FIND
  OK(cuInit(0));
}

struct Rank {
  CUcontext context;
  CUstream stream;
  CUdeviceptr memory;
  ncclComm_t communicator = nullptr;

  explicit Rank(int device) {
    OK(cuDevicePrimaryCtxRetain(&context, device));
    enter();
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuMemAlloc(&memory, 4096));
    OK(cuMemsetD8Async(memory, static_cast<unsigned char>(device + 1), 4096, stream));
    OK(cuStreamSynchronize(stream));
  }
  void enter() const { OK(cuCtxSetCurrent(context)); }
  ncclResult_t start(int size, ncclUniqueId id, int number) {
    enter();
    ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0, NCCL_CONFIG_UNDEFINED,
                           NCCL_CONFIG_UNDEFINED, NCCL_CONFIG_UNDEFINED, nullptr};
    return ncclCommInitRankConfig(&communicator, size, id, number, &config);
  }
  // What a call ends as.
  ncclResult_t wait() const {
    ncclResult_t state = ncclInProgress;
    for (int i = 0; i < 5000 && state == ncclInProgress; i++) {
      EXPECT(ncclCommGetAsyncError(communicator, &state), ncclSuccess);
      if (state == ncclInProgress) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return state;
  }
  void expect_message(const char* part) const {
    const std::string text = ncclGetLastError(communicator);
    if (text.find(part) == std::string::npos) std::printf("'%s' does not say '%s'\n", text.c_str(), part);
  }
  void* at(size_t offset) const { return reinterpret_cast<void*>(memory + offset); }
};

static ncclUniqueId make_id() {
  ncclUniqueId id;
  EXPECT(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

static std::vector<Rank> connected(int size) {
  std::vector<Rank> ranks;
  const ncclUniqueId id = make_id();
  for (int i = 0; i < size; i++) {
    ranks.emplace_back(i);
    EXPECT(ranks.back().start(size, id, i), ncclInProgress);
  }
  for (const Rank& rank : ranks) EXPECT(rank.wait(), ncclSuccess);
  return ranks;
}

static void nccl_groups() {
  open_nccl();
  int version = 0;
  EXPECT(ncclGetVersion(&version), ncclSuccess);
  EXPECT(version >= 21800, 1);
  const std::vector<Rank> ranks = connected(3);
  // Everybody to everybody, itself too: two messages, which arrive in order.
  for (int self = 0; self < 3; self++) {
    const Rank& rank = ranks[static_cast<size_t>(self)];
    rank.enter();
    EXPECT(ncclGroupStart(), ncclSuccess);
    EXPECT(ncclGroupStart(), ncclSuccess);
    for (size_t peer = 0; peer < 3; peer++) {
      const int to = static_cast<int>(peer);
      EXPECT(ncclRecv(rank.at(1024 + 256 * peer), 100, ncclInt8, to, rank.communicator, rank.stream), ncclSuccess);
      EXPECT(ncclRecv(rank.at(2048 + 256 * peer), 4, ncclInt8, to, rank.communicator, rank.stream), ncclSuccess);
      EXPECT(ncclSend(rank.at(0), 100, ncclInt8, to, rank.communicator, rank.stream), ncclSuccess);
      EXPECT(ncclSend(rank.at(256), 4, ncclInt8, to, rank.communicator, rank.stream), ncclSuccess);
    }
    EXPECT(ncclGroupEnd(), ncclSuccess);
    EXPECT(ncclGroupEnd(), ncclInProgress);
  }
  for (const Rank& rank : ranks) {
    EXPECT(rank.wait(), ncclSuccess);
    rank.enter();
    OK(cuStreamSynchronize(rank.stream));
    for (unsigned peer = 0; peer < 3; peer++) {
      EXPECT(word(rank.memory + 1024 + 256 * peer), 0x01010101u * (peer + 1));
      EXPECT(word(rank.memory + 1024 + 256 * peer + 96), 0x01010101u * (peer + 1));
      EXPECT(word(rank.memory + 2048 + 256 * peer), 0x01010101u * (peer + 1));
    }
  }
  for (const Rank& rank : ranks) {
    EXPECT(ncclCommFinalize(rank.communicator), ncclSuccess);
    EXPECT(ncclCommDestroy(rank.communicator), ncclSuccess);
    EXPECT(ncclCommDestroy(rank.communicator), ncclInvalidArgument);
  }
}

static void nccl_counts() {
  open_nccl();
  Rank first(0), second(1), third(2);
  ncclUniqueId id = make_id();
  // One says two members, another one three.
  EXPECT(first.start(2, id, 0), ncclInProgress);
  EXPECT(third.start(3, id, 2), ncclInProgress);
  EXPECT(first.wait(), ncclInvalidUsage);
  EXPECT(third.wait(), ncclInvalidUsage);
  first.expect_message("member 0 says there are 2, member 2 says 3");
  third.expect_message("member 2 says there are 3, member 0 says 2");
  for (Rank* rank : {&first, &third}) EXPECT(ncclCommAbort(rank->communicator), ncclSuccess);

  id = make_id();
  EXPECT(first.start(3, id, 1), ncclInProgress);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT(second.start(3, id, 1), ncclInProgress);
  EXPECT(second.wait(), ncclInvalidUsage);
  second.expect_message("member 1 is there twice");
  EXPECT(first.wait(), ncclRemoteError);
  first.expect_message("member 1 of 3 waited 0.5 s for members 0, 2");

  Rank same(0);
  id = make_id();
  EXPECT(first.start(2, id, 0), ncclInProgress);
  EXPECT(same.start(2, id, 1), ncclInProgress);
  EXPECT(first.wait(), ncclInvalidUsage);
  first.expect_message("are both on device 0");
  same.wait();

  EXPECT(first.start(2, id, 2), ncclInvalidArgument);
  EXPECT(first.start(0, id, 0), ncclInvalidArgument);
  EXPECT(first.start(2, ncclUniqueId{}, 0), ncclInvalidArgument);
}

static void nccl_misuse() {
  open_nccl();
  const std::vector<Rank> ranks = connected(2);
  const Rank &one = ranks[0], &other = ranks[1];
  one.enter();
  const auto send = [&](void* from, size_t bytes, int peer, CUstream stream) {
    return ncclSend(from, bytes, ncclInt8, peer, one.communicator, stream);
  };
  EXPECT(ncclGroupEnd(), ncclInvalidUsage);
  EXPECT(send(one.at(0), 16, 2, one.stream), ncclInvalidArgument);
  EXPECT(send(one.at(0), 16, -1, one.stream), ncclInvalidArgument);
  EXPECT(send(one.at(4090), 16, 1, one.stream), ncclInvalidArgument);
  EXPECT(send(other.at(0), 0, 1, no_stream), ncclInProgress);
  EXPECT(one.wait(), ncclUnhandledCudaError);
  EXPECT(send(one.at(0), 16, 1, one.stream), ncclUnhandledCudaError);
  EXPECT(ncclSend(other.at(0), 16, ncclInt8, 0, other.communicator, other.stream), ncclInvalidUsage);
  // A group with an error is dropped as a whole.
  other.enter();
  EXPECT(ncclGroupStart(), ncclSuccess);
  EXPECT(ncclSend(other.at(0), 16, ncclInt8, 0, other.communicator, other.stream), ncclSuccess);
  EXPECT(ncclSend(other.at(0), 16, ncclInt8, 7, other.communicator, other.stream), ncclInvalidArgument);
  EXPECT(ncclGroupEnd(), ncclInvalidArgument);
  OK(cuStreamSynchronize(other.stream));
  // A call before the last one was taken.
  EXPECT(ncclSend(other.at(0), 16, ncclInt8, 0, other.communicator, other.stream), ncclInProgress);
  const ncclResult_t early = ncclSend(other.at(0), 16, ncclInt8, 0, other.communicator, other.stream);
  EXPECT(early == ncclInvalidUsage || early == ncclInProgress, 1);
  other.wait();
  // What waits ends with the abort, and nothing can be done with the communicator afterwards.
  EXPECT(ncclCommAbort(other.communicator), ncclSuccess);
  OK(cuStreamSynchronize(other.stream));
  ncclResult_t state;
  EXPECT(ncclSend(other.at(0), 16, ncclInt8, 0, other.communicator, other.stream), ncclInvalidArgument);
  EXPECT(ncclCommGetAsyncError(other.communicator, &state), ncclInvalidArgument);
  EXPECT(ncclCommAbort(other.communicator), ncclInvalidArgument);
}

int main(int count, char** arguments) {
  return run_check(count, arguments,
                   {{"nccl_groups", nccl_groups}, {"nccl_counts", nccl_counts}, {"nccl_misuse", nccl_misuse}});
}
