// NCCL's C API.
#include <dlfcn.h>
#include <sys/random.h>
#include <climits>
#include <cstdio>
#include <cstring>
#include <map>
#include <thread>
#include <utility>
#include "communicator.h"

#pragma GCC visibility push(hidden)

namespace {

using nccl::Communicator;
using nccl::Group;
using Shared = std::shared_ptr<Communicator>;

constexpr int VERSION = 22700;
constexpr char MAGIC[8] = {'E', 'M', 'N', 'C', 'C', 'L', 'I', 'D'};

// The functions of the emulated driver, which lies beside this library.
struct Driver {
#define MEMBER(name, version, arguments) CUresult(*name) arguments = nullptr;
  CUDA_API_OF_NCCL(MEMBER)
  MEMBER(cuCtxSetCurrent, 4000, (CUcontext))
  MEMBER(cuStreamGetCaptureInfo, 12030,
         (CUstream, CUstreamCaptureStatus*, cuuint64_t*, CUgraph*, const CUgraphNode**, const CUgraphEdgeData**,
          size_t*))
#undef MEMBER
  bool found = false;

  Driver() {
    Dl_info own;
    if (!dladdr(MAGIC, &own)) return;
    const std::string path = own.dli_fname;
    const std::string beside = path.substr(0, path.find_last_of('/') + 1) + "libcuda-emulated.so";
    void* library = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto find = library ? reinterpret_cast<CUresult (*)(const char*, void**, int, cuuint64_t, int*)>(
                                  dlsym(library, "cuGetProcAddress_v2"))
                              : nullptr;
    if (!find) return;
    int status;
    found = true;
#define FIND(name, version, arguments) \
  found = found && find(#name, reinterpret_cast<void**>(&name), version, 0, &status) == CUDA_SUCCESS;
    CUDA_API_OF_NCCL(FIND)
    FIND(cuCtxSetCurrent, 4000, )
    FIND(cuStreamGetCaptureInfo, 12030, )
#undef FIND
  }
};

Driver& driver() {
  static auto& opened = *new Driver();
  return opened;
}

// Communicators by handles that are never used again, so that a dead one is refused.
std::mutex& mutex = *new std::mutex();
auto& communicators = *new std::map<ncclComm_t, Shared>();
// Operations that graphs may launch as long as the process lives.
struct Operation {
  Shared communicator;
  Group group;
  bool captured;
};
auto& captured = *new std::vector<std::unique_ptr<Operation>>();

thread_local std::string last_message;

ncclResult_t refuse(ncclResult_t result, const std::string& message) {
  last_message = message;
  return result;
}

Shared find(ncclComm_t handle) {
  const std::lock_guard lock(mutex);
  const auto found = communicators.find(handle);
  return found == communicators.end() ? nullptr : found->second;
}

#define FIND_COMMUNICATOR(handle)           \
  const Shared communicator = find(handle); \
  if (!communicator) return refuse(ncclInvalidArgument, "the communicator was destroyed or aborted")

// What a thread has issued since its outermost ncclGroupStart.
struct Pending {
  Shared communicator;
  CUstream stream;
  Group group;
};
thread_local int depth = 0;
thread_local std::vector<Pending> pending;
// The first error of a group, which is then dropped as a whole.
thread_local ncclResult_t group_error = ncclSuccess;

void run_operation(void* argument) {
  auto* operation = static_cast<Operation*>(argument);
  operation->communicator->run(operation->group);
  if (!operation->captured) delete operation;
}

// As NCCL does for communicators that do not block, from a thread of its own.
void enqueue(CUcontext context, Pending one) {
  const Shared communicator = one.communicator;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  bool good = driver().cuCtxSetCurrent(context) == CUDA_SUCCESS &&
              driver().cuStreamGetCaptureInfo(one.stream, &status, nullptr, nullptr, nullptr, nullptr, nullptr) ==
                CUDA_SUCCESS;
  const bool captures = status != CU_STREAM_CAPTURE_STATUS_NONE;
  auto operation = std::make_unique<Operation>(Operation{communicator, std::move(one.group), captures});
  good = good && driver().cuLaunchHostFunc(one.stream, run_operation, operation.get()) == CUDA_SUCCESS;
  if (good && captures) {
    const std::lock_guard lock(mutex);
    captured.push_back(std::move(operation));
  } else if (good) {
    // It deletes itself, and may have done so.
    operation.release();
  }
  if (good)
    communicator->set_state(ncclSuccess);
  else
    communicator->set_state(ncclUnhandledCudaError, "the driver refused the operation's host function");
}

ncclResult_t take(bool sends, const void* address, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                   CUstream stream) {
  FIND_COMMUNICATOR(handle);
  if (const ncclResult_t state = communicator->state(); state == ncclInProgress)
    return refuse(ncclInvalidUsage, "the call before is still in progress: ask ncclCommGetAsyncError first");
  else if (state != ncclSuccess)
    return refuse(state, communicator->message());
  if (peer < 0 || peer >= communicator->size)
    return refuse(ncclInvalidArgument, "no member " + std::to_string(peer) + " of " +
                                         std::to_string(communicator->size));
  if (type != ncclInt8) return refuse(ncclInvalidArgument, "the emulated NCCL moves bytes (ncclInt8) only");
  CUdevice device = -1;
  CUdeviceptr base = 0;
  size_t room = 0;
  const auto at = reinterpret_cast<CUdeviceptr>(address);
  if (driver().cuCtxGetDevice(&device) != CUDA_SUCCESS || device != communicator->device)
    return refuse(ncclInvalidUsage, "the communicator is for device " + std::to_string(communicator->device));
  if (driver().cuMemGetAddressRange(&base, &room, at) != CUDA_SUCCESS || count > room - (at - base))
    return refuse(ncclInvalidArgument, std::to_string(count) + " bytes of a message are not in device memory");
  Pending* open = nullptr;
  for (Pending& one : pending)
    if (one.communicator == communicator) open = &one;
  if (open && open->stream != stream) return refuse(ncclInvalidUsage, "a group uses one communicator on two streams");
  if (!open) open = &pending.emplace_back(Pending{communicator, stream, {}});
  auto* bytes = static_cast<unsigned char*>(const_cast<void*>(address));
  (sends ? open->group.sends : open->group.receives).push_back({peer, bytes, count});
  return ncclSuccess;
}

ncclResult_t issue(bool sends, const void* address, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                   CUstream stream) {
  const ncclResult_t result = take(sends, address, count, type, peer, handle, stream);
  if (group_error == ncclSuccess) group_error = result;
  return result;
}

}  // namespace

#pragma GCC visibility pop

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT ncclResult_t ncclGetVersion(int* version) {
  if (!version) return refuse(ncclInvalidArgument, "no place for the version");
  *version = VERSION;
  return ncclSuccess;
}

EXPORT const char* ncclGetErrorString(ncclResult_t result) {
  static const char* texts[] = {"no error",           "unhandled cuda error", "unhandled system error",
                                "internal error",     "invalid argument",     "invalid usage",
                                "remote process exited or there was a network error", "NCCL operation in progress"};
  return result >= 0 && result <= ncclInProgress ? texts[result] : "unknown result code";
}

EXPORT const char* ncclGetLastError(ncclComm_t handle) {
  if (const Shared communicator = handle ? find(handle) : nullptr)
    if (const std::string own = communicator->message(); !own.empty()) last_message = own;
  return last_message.c_str();
}

EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (!id) return refuse(ncclInvalidArgument, "no place for the id");
  *id = {};
  std::memcpy(id->internal, MAGIC, sizeof MAGIC);
  if (getrandom(id->internal + sizeof MAGIC, 16, 0) != 16) return refuse(ncclSystemError, "no random numbers");
  return ncclSuccess;
}

EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int size, ncclUniqueId id, int rank,
                                           ncclConfig_t* config) {
  if (!handle) return refuse(ncclInvalidArgument, "no place for the communicator");
  *handle = nullptr;
  if (size < 1 || rank < 0 || rank >= size)
    return refuse(ncclInvalidArgument, "no rank " + std::to_string(rank) + " of " + std::to_string(size));
  if (std::memcmp(id.internal, MAGIC, sizeof MAGIC) != 0)
    return refuse(ncclInvalidArgument, "the unique id was not made by ncclGetUniqueId");
  if (!config || config->size < sizeof(ncclConfig_t) || config->magic != NCCL_CONFIG_MAGIC || config->blocking != 0)
    return refuse(ncclInvalidArgument, "the emulated NCCL has communicators that do not block only");
  CUdevice device = -1;
  if (!driver().found || driver().cuCtxGetDevice(&device) != CUDA_SUCCESS)
    return refuse(ncclUnhandledCudaError, "no context of the emulated driver is current");
  char name[33];
  for (int i = 0; i < 16; i++)
    std::snprintf(name + 2 * i, 3, "%02x", static_cast<unsigned char>(id.internal[sizeof MAGIC + i]));
  const Shared made = std::make_shared<Communicator>(name, size, rank, device);
  made->set_state(ncclInProgress);
  {
    const std::lock_guard lock(mutex);
    static uintptr_t next = 4096;
    *handle = reinterpret_cast<ncclComm_t>(next += 16);
    communicators[*handle] = made;
  }
  std::thread([made] { made->connect(); }).detach();
  return ncclInProgress;
}

EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* result) {
  FIND_COMMUNICATOR(handle);
  *result = communicator->state();
  return ncclSuccess;
}

// Sends end only when they are received: nothing is left to finish.
EXPORT ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  FIND_COMMUNICATOR(handle);
  return communicator->state();
}

static ncclResult_t end(ncclComm_t handle) {
  FIND_COMMUNICATOR(handle);
  {
    const std::lock_guard lock(mutex);
    communicators.erase(handle);
  }
  communicator->abort();
  return ncclSuccess;
}

EXPORT ncclResult_t ncclCommAbort(ncclComm_t handle) { return end(handle); }
EXPORT ncclResult_t ncclCommDestroy(ncclComm_t handle) { return end(handle); }

EXPORT ncclResult_t ncclGroupStart(void) {
  depth++;
  return ncclSuccess;
}

EXPORT ncclResult_t ncclGroupEnd(void) {
  if (depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--depth > 0) return ncclSuccess;
  if (const ncclResult_t failed = std::exchange(group_error, ncclSuccess)) {
    pending.clear();
    return failed;
  }
  CUcontext context = nullptr;
  if (driver().cuCtxGetCurrent(&context) != CUDA_SUCCESS)
    return refuse(ncclUnhandledCudaError, "no context is current");
  const bool some = !pending.empty();
  for (Pending& one : pending) {
    one.communicator->set_state(ncclInProgress);
    std::thread(enqueue, context, std::move(one)).detach();
  }
  pending.clear();
  return some ? ncclInProgress : ncclSuccess;
}

static ncclResult_t issue_alone(bool sends, const void* address, size_t count, ncclDataType_t type, int peer,
                                ncclComm_t handle, CUstream stream) {
  ncclGroupStart();
  const ncclResult_t issued = issue(sends, address, count, type, peer, handle, stream);
  const ncclResult_t ended = ncclGroupEnd();
  return issued == ncclSuccess ? ended : issued;
}

EXPORT ncclResult_t ncclSend(const void* address, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                             CUstream stream) {
  return (depth > 0 ? issue : issue_alone)(true, address, count, type, peer, handle, stream);
}

EXPORT ncclResult_t ncclRecv(void* address, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                             CUstream stream) {
  return (depth > 0 ? issue : issue_alone)(false, address, count, type, peer, handle, stream);
}

// Every function of the list has its type.
#define CHECK(name, result, arguments) static_assert(std::is_same_v<decltype(&name), result(*) arguments>);
NCCL_API(CHECK)
