// Graphs run one node at a time, in the order they were added or, with EXACTMAP_EMULATED_GRAPH_ORDER=shuffle:<seed>,
// in another random topological order at every launch: a missing edge then shows as a changed result.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <variant>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace driver {

using Copy = CUDA_MEMCPY3D;

struct Node {
  std::variant<Call, Copy> work;
  std::vector<size_t> after;
};

struct Graph {
  std::mutex mutex;
  std::vector<Node> nodes;
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

static CUresult add_node(CUgraphNode* handle, CUgraph graph_handle, const CUgraphNode* after, size_t count,
                         std::variant<Call, Copy> work) {
  const auto graph = graphs().find(graph_handle);
  if (!graph || !handle || (count > 0 && !after)) return CUDA_ERROR_INVALID_VALUE;
  Node node{std::move(work), {}};
  for (size_t i = 0; i < count; i++) {
    const auto other = nodes().find(after[i]);
    if (!other || other->graph.lock() != graph)
      return refuse(CUDA_ERROR_INVALID_VALUE, "a node depends on a node that is not of its graph");
    if (std::find(node.after.begin(), node.after.end(), other->index) != node.after.end())
      return refuse(CUDA_ERROR_INVALID_VALUE, "a node names a dependency twice");
    node.after.push_back(other->index);
  }
  const std::lock_guard lock(graph->mutex);
  graph->nodes.push_back(std::move(node));
  *handle = nodes().add(std::make_shared<NodeHandle>(NodeHandle{graph, graph->nodes.size() - 1}));
  return CUDA_SUCCESS;
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

// Nodes were added after those they depend on, so the order of adding is topological.
static std::vector<size_t> topological_order(const Executable& executable, std::optional<uint64_t> seed) {
  const size_t count = executable.nodes.size();
  std::vector<size_t> order, ready, missing(count);
  order.reserve(count);
  if (!seed) {
    for (size_t i = 0; i < count; i++) order.push_back(i);
    return order;
  }
  simt::Random random(*seed);
  for (size_t i = 0; i < count; i++)
    if ((missing[i] = executable.nodes[i].after.size()) == 0) ready.push_back(i);
  while (!ready.empty()) {
    std::swap(ready[random.below(ready.size())], ready.back());
    const size_t node = ready.back();
    ready.pop_back();
    order.push_back(node);
    for (const size_t next : executable.before[node])
      if (--missing[next] == 0) ready.push_back(next);
  }
  return order;
}

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

static void run_graph(const Executable& executable, std::optional<uint64_t> seed, Context& context,
                      simt::Worker& worker) {
  for (const size_t i : topological_order(executable, seed)) {
    const auto& work = executable.nodes[i].work;
    if (const Call* call = std::get_if<Call>(&work)) {
      run_call(*call, context, worker);
    } else {
      const Copy& copy = std::get<Copy>(work);
      if (check_copy(copy) != CUDA_SUCCESS)
        context.fail(CUDA_ERROR_ILLEGAL_ADDRESS, "a copy node's device memory was freed");
      else
        std::memmove(destination(copy), source(copy), copy.WidthInBytes);
    }
    if (context.sticky != CUDA_SUCCESS) return;
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

CUresult emulated::cuGraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                                        const CUDA_MEMCPY3D* given, CUcontext) {
  ENTER_CONTEXT(cuGraphAddMemcpyNode);
  if (!given) return CUDA_ERROR_INVALID_VALUE;
  const CUresult invalid = check_copy(*given);
  return invalid ? invalid : add_node(node, graph, after, count, *given);
}

CUresult emulated::cuGraphInstantiate(CUgraphExec* handle, CUgraph graph_handle, unsigned long long) {
  ENTER_CONTEXT(cuGraphInstantiate);
  const auto graph = graphs().find(graph_handle);
  if (!graph || !handle) return CUDA_ERROR_INVALID_VALUE;
  const auto executable = std::make_shared<Executable>();
  {
    const std::lock_guard lock(graph->mutex);
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
