// Graphs run one node at a time, in the order they were added or, with EXACTMAP_EMULATED_GRAPH_ORDER=shuffle:<seed>,
// in another random topological order at every launch: a missing edge then shows as a changed result. Host functions
// run beside the nodes that do not wait for them: exchanges of two channels may wait for each other's peers.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace driver {

using Copy = CUDA_MEMCPY3D;

struct Node {
  Work work;
  std::vector<size_t> after;
};

struct Graph {
  std::mutex mutex;
  std::vector<Node> nodes;
  // Streams that capture into it.
  int captures = 0;
};

struct NodeHandle {
  std::weak_ptr<Graph> graph;
  size_t index;
};

struct Executable {
  std::vector<Node> nodes;
  std::vector<std::vector<size_t>> before;
  std::mutex mutex;
  // Launches of one executable never overlap, on whatever streams they are.
  std::shared_ptr<Completion> last;
};

static Table<CUgraph, Graph>& graphs() {
  static auto& table = *new Table<CUgraph, Graph>();
  return table;
}
static Table<CUgraphNode, NodeHandle>& nodes() {
  static auto& table = *new Table<CUgraphNode, NodeHandle>();
  return table;
}
static Table<CUgraphExec, Executable>& executables() {
  static auto& table = *new Table<CUgraphExec, Executable>();
  return table;
}

CUresult check_nodes(CUgraph graph_handle, const CUgraphNode* given, size_t count) {
  const auto graph = graphs().find(graph_handle);
  if (!graph || (count > 0 && !given)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; i++) {
    const auto node = nodes().find(given[i]);
    if (!node || node->graph.lock() != graph)
      return refuse(CUDA_ERROR_INVALID_VALUE, "a node depends on a node that is not of its graph");
    if (std::find(given, given + i, given[i]) != given + i)
      return refuse(CUDA_ERROR_INVALID_VALUE, "a node names a dependency twice");
  }
  return CUDA_SUCCESS;
}

CUresult hold_graph(CUgraph handle, int change) {
  const auto graph = graphs().find(handle);
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(graph->mutex);
  graph->captures += change;
  return CUDA_SUCCESS;
}

CUresult add_node(CUgraphNode* handle, CUgraph graph_handle, const CUgraphNode* after, size_t count, Work work) {
  if (!handle) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult wrong = check_nodes(graph_handle, after, count)) return wrong;
  const auto graph = graphs().find(graph_handle);
  Node node{std::move(work), {}};
  for (size_t i = 0; i < count; i++) node.after.push_back(nodes().find(after[i])->index);
  const std::lock_guard lock(graph->mutex);
  graph->nodes.push_back(std::move(node));
  *handle = nodes().add(std::make_shared<NodeHandle>(NodeHandle{graph, graph->nodes.size() - 1}));
  return CUDA_SUCCESS;
}

CUDA_MEMCPY3D device_copy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  Copy copy{};
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = from;
  copy.dstDevice = to;
  copy.WidthInBytes = bytes;
  copy.Height = copy.Depth = 1;
  return copy;
}

// The seed of the next launch's order; none for the order of adding.
static std::optional<uint64_t> next_seed() {
  static const std::optional<simt::Order> order = [] {
    const char* text = std::getenv("EXACTMAP_EMULATED_GRAPH_ORDER");
    return simt::parse_order(text ? text : "forward");
  }();
  static std::atomic<uint64_t> launches = 0;
  if (!order || order->pattern != simt::Order::shuffle) return std::nullopt;
  return simt::Random(order->seed ^ launches++).next();
}

// The nodes whose dependencies are done, and which of them comes next.
class Ready {
 public:
  Ready(const Executable& executable, std::optional<uint64_t> seed)
      : executable_(executable), missing_(executable.nodes.size()), random_(seed.value_or(0)), shuffled_(seed) {
    for (size_t i = 0; i < missing_.size(); i++)
      if ((missing_[i] = executable.nodes[i].after.size()) == 0) nodes_.insert(i);
  }
  bool empty() const { return nodes_.empty(); }
  size_t take() {
    const auto next = std::next(nodes_.begin(), shuffled_ ? static_cast<long>(random_.below(nodes_.size())) : 0);
    const size_t node = *next;
    nodes_.erase(next);
    return node;
  }
  void done(size_t node) {
    for (const size_t next : executable_.before[node])
      if (--missing_[next] == 0) nodes_.insert(next);
  }

 private:
  const Executable& executable_;
  std::vector<size_t> missing_;
  // In the order of adding.
  std::set<size_t> nodes_;
  simt::Random random_;
  const bool shuffled_;
};

// Host functions under way, and those that have ended.
struct HostCalls {
  std::mutex mutex;
  std::condition_variable changed;
  size_t running = 0;
  std::vector<size_t> ended;
};

static const unsigned char* source(const Copy& copy) {
  return copy.srcMemoryType == CU_MEMORYTYPE_HOST ? static_cast<const unsigned char*>(copy.srcHost)
                                                  : reinterpret_cast<const unsigned char*>(copy.srcDevice);
}
static unsigned char* destination(const Copy& copy) {
  return copy.dstMemoryType == CU_MEMORYTYPE_HOST ? static_cast<unsigned char*>(copy.dstHost)
                                                  : reinterpret_cast<unsigned char*>(copy.dstDevice);
}

// Copies are ranges of bytes: one row.
static CUresult check_copy(const Copy& copy) {
  const bool types = (copy.srcMemoryType == CU_MEMORYTYPE_HOST || copy.srcMemoryType == CU_MEMORYTYPE_DEVICE) &&
                     (copy.dstMemoryType == CU_MEMORYTYPE_HOST || copy.dstMemoryType == CU_MEMORYTYPE_DEVICE);
  if (!types || copy.Height != 1 || copy.Depth != 1 || copy.WidthInBytes == 0 || copy.srcXInBytes || copy.srcY ||
      copy.srcZ || copy.dstXInBytes || copy.dstY || copy.dstZ)
    return refuse(CUDA_ERROR_INVALID_VALUE, "a copy node is no range of bytes");
  const bool ranges =
    (copy.srcMemoryType == CU_MEMORYTYPE_HOST ? copy.srcHost != nullptr
                                              : is_device_range(copy.srcDevice, copy.WidthInBytes)) &&
    (copy.dstMemoryType == CU_MEMORYTYPE_HOST ? copy.dstHost != nullptr
                                              : is_device_range(copy.dstDevice, copy.WidthInBytes));
  return ranges ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "a copy node's range is no device memory");
}

static void run_copy(const Copy& copy, Context& context) {
  if (check_copy(copy) != CUDA_SUCCESS)
    context.fail(CUDA_ERROR_ILLEGAL_ADDRESS, "a copy node's device memory was freed");
  else
    std::memmove(destination(copy), source(copy), copy.WidthInBytes);
}

static void start_host_call(const std::shared_ptr<HostCalls>& calls, HostCall call, size_t node) {
  {
    const std::lock_guard lock(calls->mutex);
    calls->running++;
  }
  std::thread([calls, call, node] {
    run_host_call(call);
    const std::lock_guard lock(calls->mutex);
    calls->running--;
    calls->ended.push_back(node);
    calls->changed.notify_all();
  }).detach();
}

static void run_graph(const Executable& executable, std::optional<uint64_t> seed, Context& context,
                      simt::Worker& worker) {
  Ready ready(executable, seed);
  const auto calls = std::make_shared<HostCalls>();
  for (;;) {
    // After an error nothing waits for host functions either: the context is gone.
    if (context.sticky != CUDA_SUCCESS) return;
    {
      std::unique_lock lock(calls->mutex);
      if (ready.empty()) calls->changed.wait(lock, [&] { return calls->running == 0 || !calls->ended.empty(); });
      for (const size_t node : std::exchange(calls->ended, {})) ready.done(node);
      if (ready.empty() && calls->running == 0) return;
      if (ready.empty()) continue;
    }
    const size_t node = ready.take();
    const Work& work = executable.nodes[node].work;
    if (const HostCall* call = std::get_if<HostCall>(&work)) {
      start_host_call(calls, *call, node);
      continue;
    }
    if (const Call* call = std::get_if<Call>(&work))
      run_call(*call, context, worker);
    else
      run_copy(std::get<Copy>(work), context);
    ready.done(node);
  }
}

}  // namespace driver

using namespace driver;

CUresult emulated::cuGraphCreate(CUgraph* handle, unsigned int flags) {
  ENTER(cuGraphCreate);
  if (flags != 0 || !handle) return CUDA_ERROR_INVALID_VALUE;
  *handle = graphs().add(std::make_shared<Graph>());
  return CUDA_SUCCESS;
}

CUresult emulated::cuGraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                                        const CUDA_KERNEL_NODE_PARAMS* given) {
  ENTER_CONTEXT(cuGraphAddKernelNode);
  if (!given) return CUDA_ERROR_INVALID_VALUE;
  const CUfunction function = given->func ? given->func : reinterpret_cast<CUfunction>(given->kern);
  Call call;
  const CUresult invalid =
    make_call(function, {given->gridDimX, given->gridDimY, given->gridDimZ},
              {given->blockDimX, given->blockDimY, given->blockDimZ}, given->sharedMemBytes, given->kernelParams,
              given->extra, call);
  return invalid ? invalid : add_node(node, graph, after, count, std::move(call));
}

// Cooperative kernels are refused where their blocks are not all resident at a time.
CUresult emulated::cuGraphKernelNodeSetAttribute(CUgraphNode handle, CUlaunchAttributeID attribute,
                                                 const CUlaunchAttributeValue* value) {
  ENTER_CONTEXT(cuGraphKernelNodeSetAttribute);
  const auto node = nodes().find(handle);
  const auto graph = node ? node->graph.lock() : nullptr;
  if (!graph || !value || attribute != CU_LAUNCH_ATTRIBUTE_COOPERATIVE) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard lock(graph->mutex);
  const Call* call = std::get_if<Call>(&graph->nodes[node->index].work);
  if (!call) return CUDA_ERROR_INVALID_VALUE;
  constexpr uint64_t MEMORY = 228 * 1024, OF_SYSTEM = 1024, THREADS = 2048;
  const uint64_t by_memory = MEMORY / (call->kernel->kernel->dynamic_shared + OF_SYSTEM);
  const uint64_t at_once = std::min(THREADS / call->threads, by_memory);
  const uint64_t blocks = uint64_t{call->grid.x} * call->grid.y * call->grid.z;
  return value->cooperative && blocks > at_once * simt::MULTIPROCESSORS ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
                                                                        : CUDA_SUCCESS;
}

CUresult emulated::cuGraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                                        const CUDA_MEMCPY3D* given, CUcontext) {
  ENTER_CONTEXT(cuGraphAddMemcpyNode);
  if (!given) return CUDA_ERROR_INVALID_VALUE;
  const CUresult invalid = check_copy(*given);
  return invalid ? invalid : add_node(node, graph, after, count, *given);
}

CUresult emulated::cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph graph_handle, unsigned long long) {
  ENTER_CONTEXT(cuGraphInstantiateWithFlags);
  const auto graph = graphs().find(graph_handle);
  if (!graph || !handle) return CUDA_ERROR_INVALID_VALUE;
  const auto executable = std::make_shared<Executable>();
  {
    const std::lock_guard lock(graph->mutex);
    if (graph->captures > 0) return refuse(CUDA_ERROR_INVALID_VALUE, "a stream captures into the graph");
    executable->nodes = graph->nodes;
  }
  executable->before.resize(executable->nodes.size());
  for (size_t i = 0; i < executable->nodes.size(); i++)
    for (const size_t other : executable->nodes[i].after) executable->before[other].push_back(i);
  *handle = executables().add(executable);
  return CUDA_SUCCESS;
}

CUresult emulated::cuGraphUpload(CUgraphExec handle, CUstream stream_handle) {
  ENTER_CONTEXT(cuGraphUpload);
  const bool alive = executables().find(handle) && find_stream(stream_handle, *context);
  return alive ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult emulated::cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  ENTER_CONTEXT(cuGraphLaunch);
  const auto executable = executables().find(handle);
  const auto stream = find_stream(stream_handle, *context);
  if (!executable || !stream) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult captures = refuse_capturing(*stream, __func__)) return captures;
  const auto completion = std::make_shared<Completion>();
  const std::lock_guard lock(executable->mutex);
  const auto earlier = std::exchange(executable->last, completion);
  const auto run = [=, seed = next_seed()](simt::Worker& worker) {
    if (earlier) earlier->done.wait(false);
    if (stream->context->sticky == CUDA_SUCCESS) run_graph(*executable, seed, *stream->context, worker);
    completion->done = true;
    completion->done.notify_all();
  };
  stream->enqueue(run, true);
  return CUDA_SUCCESS;
}

CUresult emulated::cuGraphExecDestroy(CUgraphExec handle) {
  ENTER(cuGraphExecDestroy);
  return executables().remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult emulated::cuGraphDestroy(CUgraph handle) {
  ENTER(cuGraphDestroy);
  const auto graph = graphs().remove(handle);
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  nodes().remove_if([&](const NodeHandle& node) { return node.graph.lock() == graph; });
  return CUDA_SUCCESS;
}
