// The objects behind the driver's handles. Every handle is a number that is never used again, so a dead one is
// refused instead of meaning another object.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>
#include "../runtime/cuda_api.h"
#include "worker.h"

#pragma GCC visibility push(hidden)

namespace driver {

class Stream;

// The live handles of one kind.
template <class Handle, class T>
class Table {
 public:
  Handle add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    const Handle handle = reinterpret_cast<Handle>(next_ += 16);
    live_[handle] = std::move(object);
    return handle;
  }
  std::shared_ptr<T> find(Handle handle) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(handle);
    return found == live_.end() ? nullptr : found->second;
  }
  std::shared_ptr<T> remove(Handle handle) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(handle);
    if (found == live_.end()) return nullptr;
    std::shared_ptr<T> object = std::move(found->second);
    live_.erase(found);
    return object;
  }
  template <class Condition>
  void remove_if(Condition condition) {
    // Objects end outside the lock: ending one may look up others.
    std::vector<std::shared_ptr<T>> removed;
    const std::lock_guard lock(mutex_);
    for (auto i = live_.begin(); i != live_.end();)
      if (condition(*i->second)) {
        removed.push_back(std::move(i->second));
        i = live_.erase(i);
      } else {
        ++i;
      }
  }

 private:
  std::mutex mutex_;
  uintptr_t next_ = 4096;
  std::unordered_map<Handle, std::shared_ptr<T>> live_;
};

// What a device holds between the first retain of its primary context and its end.
class Context {
 public:
  explicit Context(int device) : device(device) {}
  const int device;
  // The error that every later call gives, as after a failed launch on hardware.
  std::atomic<CUresult> sticky{CUDA_SUCCESS};
  void fail(CUresult error, const std::string& message);
  // Counts operations of its streams, and waits until there are none: a destroyed stream may still have some.
  void add_work();
  void remove_work();
  void finish();
  void end();
  std::shared_ptr<Stream> default_stream();

 private:
  std::mutex mutex_, work_mutex_;
  std::condition_variable idle_;
  uint64_t work_ = 0;
  std::shared_ptr<Stream> default_stream_;
};

// The calling thread's context, or the error to return.
CUresult current_context(std::shared_ptr<Context>& context);
// Counts the call, and gives the error that EXACTMAP_EMULATED_FAIL, a missing cuInit or a host function asks for.
CUresult enter(const char* function);
// Leaves `message` for exactmap_emulated_message and returns `error`.
CUresult refuse(CUresult error, const std::string& message);
void set_message(const std::string& message);
std::string message();

#define ENTER(function) \
  if (const CUresult entered = driver::enter(#function)) return entered
// As ENTER, for functions of the current context, which becomes `context`.
#define ENTER_CONTEXT(function) \
  ENTER(function);              \
  std::shared_ptr<Context> context; \
  if (const CUresult current = driver::current_context(context)) return current

// Device and pinned host memory.
CUresult allocate_device(const std::shared_ptr<Context>& context, size_t bytes, CUdeviceptr& address);
CUresult free_device(const Context& context, CUdeviceptr address);
void free_all(const Context& context);
bool is_device_range(CUdeviceptr address, size_t bytes);
// The allocation that an address is in; none where there is none.
std::optional<std::pair<CUdeviceptr, size_t>> allocation_of(CUdeviceptr address);
CUresult allocate_pinned(size_t bytes, void*& address);
CUresult free_pinned(void* address);
bool is_pinned(const void* address, size_t bytes);
size_t device_bytes();
size_t used_bytes(int device);
// Names memory beside an allocation that a kernel has written; empty where all is well.
std::string overrun_allocation();

// What an event was last recorded as.
struct Completion {
  std::atomic<bool> done = false;
  std::chrono::steady_clock::time_point time;
};

struct Event {
  std::weak_ptr<Context> context;
  bool timing;
  std::mutex mutex;
  std::shared_ptr<Completion> last;
};

using Operation = std::function<void(simt::Worker&)>;

// A thread that executes operations in order.
class Stream {
 public:
  explicit Stream(std::shared_ptr<Context> context);
  ~Stream();
  // Operations after an error of the context are skipped, all but those that `always` run.
  void enqueue(Operation operation, bool always = false);
  void synchronize();
  const std::shared_ptr<Context> context;
  // What its calls become nodes of; empty while they are executed.
  std::shared_ptr<struct Capture> capture() const;
  void set_capture(std::shared_ptr<struct Capture> capture);

 private:
  mutable std::mutex capture_mutex_;
  std::shared_ptr<struct Capture> capture_;
  struct Queue;
  static void execute(std::shared_ptr<Queue> queue);
  std::shared_ptr<Queue> queue_;
};

struct Library {
  ~Library();
  void* handle = nullptr;
  int file = -1;
  std::string path;
  const simt::KernelLibrary* kernels = nullptr;
  simt::CodeRange code;
};

struct LoadedKernel {
  std::shared_ptr<Library> library;
  const simt::Kernel* kernel;
  // Dynamic shared memory that launches may ask for: cuKernelSetAttribute raises it.
  std::atomic<uint32_t> shared_limit = 48 * 1024;
};

// A kernel with a copy of its parameters.
struct Call {
  std::shared_ptr<LoadedKernel> kernel;
  // Each with room for the largest, which is a tensor map.
  std::vector<simt::TensorMap> values;
  dim3 grid;
  uint32_t threads;
};
CUresult make_call(CUfunction function, dim3 grid, dim3 block, unsigned shared_bytes, void** parameters, void** extra,
                   Call& call);
void run_call(const Call& call, Context& context, simt::Worker& worker);

// A call of the host. In a graph it runs beside the nodes that do not wait for it.
struct HostCall {
  CUhostFn function;
  void* argument;
};
void run_host_call(const HostCall& call);

// What a node of a graph does.
using Work = std::variant<Call, CUDA_MEMCPY3D, HostCall>;
CUresult add_node(CUgraphNode* handle, CUgraph graph, const CUgraphNode* after, size_t count, Work work);
CUDA_MEMCPY3D device_copy(CUdeviceptr to, CUdeviceptr from, size_t bytes);
// Whether the nodes are those of the graph, each named once.
CUresult check_nodes(CUgraph graph, const CUgraphNode* nodes, size_t count);
// While a stream captures into a graph, it can't be instantiated.
CUresult hold_graph(CUgraph graph, int change);

// Streams that capture (capture.cpp). Makes the work a node; nothing where the stream captures into no graph.
std::optional<CUresult> capture(Stream& stream, const std::function<CUresult(Work&)>& make);
// The error of a call that can't be captured, which ends the capture; success where there is none.
CUresult refuse_capturing(Stream& stream, const char* function);
// The error of a call that could wait for a stream in capture.
CUresult refuse_unsafe(const char* function);
#define REFUSE_UNSAFE(function) \
  if (const CUresult unsafe = driver::refuse_unsafe(#function)) return unsafe

Table<CUstream, Stream>& streams();
Table<CUevent, Event>& events();
Table<CUlibrary, Library>& libraries();
Table<CUkernel, LoadedKernel>& kernels();
// A null handle is the context's default stream.
std::shared_ptr<Stream> find_stream(CUstream handle, Context& context);

}  // namespace driver

namespace emulated {
#define DECLARE(name, version, arguments) CUresult name arguments;
CUDA_API(DECLARE)
CUDA_API_OF_NCCL(DECLARE)
#undef DECLARE
}  // namespace emulated

#pragma GCC visibility pop
