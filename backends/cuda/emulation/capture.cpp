// Streams whose calls become nodes of a graph instead of being executed. Kernels, copies on the device and host
// functions can be captured; any other call on such a stream ends the capture with an error, as do calls that could
// wait for it, from the threads that its mode names.
#include "driver.h"
#include <algorithm>

#pragma GCC visibility push(hidden)

namespace driver {

struct Capture {
  CUgraph graph;
  CUstreamCaptureMode mode;
  std::thread::id thread;
  cuuint64_t id;
  std::atomic<bool> invalid = false;
  // What the next node depends on.
  std::mutex mutex;
  std::vector<CUgraphNode> last;
  // As many, and plain.
  std::vector<CUgraphEdgeData> edges;
};

// Captures under way.
static std::mutex& mutex = *new std::mutex();
static auto& captures = *new std::vector<std::shared_ptr<Capture>>();

std::shared_ptr<Capture> Stream::capture() const {
  const std::lock_guard lock(capture_mutex_);
  return capture_;
}

void Stream::set_capture(std::shared_ptr<Capture> capture) {
  const std::lock_guard lock(capture_mutex_);
  capture_ = std::move(capture);
}

std::optional<CUresult> capture(Stream& stream, const std::function<CUresult(Work&)>& make) {
  const auto found = stream.capture();
  if (!found) return std::nullopt;
  if (found->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  Work work;
  CUresult result = make(work);
  if (result == CUDA_SUCCESS) {
    const std::lock_guard lock(found->mutex);
    CUgraphNode node = nullptr;
    result = add_node(&node, found->graph, found->last.data(), found->last.size(), std::move(work));
    if (result == CUDA_SUCCESS) found->last = {node};
  }
  if (result != CUDA_SUCCESS) found->invalid = true;
  return result;
}

CUresult refuse_capturing(Stream& stream, const char* function) {
  const auto found = stream.capture();
  if (!found) return CUDA_SUCCESS;
  found->invalid = true;
  return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(function) + " on a stream in capture");
}

CUresult refuse_unsafe(const char* function) {
  const std::lock_guard lock(mutex);
  CUresult result = CUDA_SUCCESS;
  for (const auto& one : captures)
    if (one->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
        (one->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && one->thread == std::this_thread::get_id())) {
      one->invalid = true;
      result = refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                      std::string(function) + " while a stream captures, which it could wait for");
    }
  return result;
}

}  // namespace driver

using namespace driver;

CUresult emulated::cuStreamBeginCaptureToGraph(CUstream handle, CUgraph graph, const CUgraphNode* after,
                                               const CUgraphEdgeData* edges, size_t count, CUstreamCaptureMode mode) {
  ENTER_CONTEXT(cuStreamBeginCaptureToGraph);
  // The default stream can't capture.
  const auto stream = streams().find(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED || (count > 0 && !after))
    return CUDA_ERROR_INVALID_VALUE;
  if (edges) return refuse(CUDA_ERROR_INVALID_VALUE, "the emulated driver has plain edges only");
  if (stream->capture()) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is in capture already");
  if (const CUresult wrong = check_nodes(graph, after, count)) return wrong;
  if (const CUresult wrong = hold_graph(graph, 1)) return wrong;
  static std::atomic<cuuint64_t> next_id = 1;
  const auto made = std::make_shared<Capture>();
  made->graph = graph;
  made->mode = mode;
  made->thread = std::this_thread::get_id();
  made->id = next_id++;
  made->last.assign(after, after + count);
  stream->set_capture(made);
  const std::lock_guard lock(mutex);
  captures.push_back(made);
  return CUDA_SUCCESS;
}

CUresult emulated::cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                          CUgraph* graph, const CUgraphNode** last, const CUgraphEdgeData** edges,
                                          size_t* count) {
  ENTER_CONTEXT(cuStreamGetCaptureInfo);
  const auto stream = find_stream(handle, *context);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!status || (edges && !last)) return CUDA_ERROR_INVALID_VALUE;
  const auto found = stream->capture();
  *status = !found           ? CU_STREAM_CAPTURE_STATUS_NONE
            : found->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
  const std::lock_guard lock(found->mutex);
  if (id) *id = found->id;
  if (graph) *graph = found->graph;
  if (last) *last = found->last.data();
  if (edges) {
    found->edges.resize(found->last.size());
    *edges = found->edges.data();
  }
  if (count) *count = found->last.size();
  return CUDA_SUCCESS;
}

CUresult emulated::cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  ENTER_CONTEXT(cuStreamEndCapture);
  const auto stream = streams().find(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  *graph = nullptr;
  const auto found = stream->capture();
  if (!found) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not in capture");
  if (found->mode != CU_STREAM_CAPTURE_MODE_RELAXED && found->thread != std::this_thread::get_id())
    return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread began the capture");
  stream->set_capture(nullptr);
  {
    const std::lock_guard lock(mutex);
    captures.erase(std::find(captures.begin(), captures.end(), found));
  }
  hold_graph(found->graph, -1);
  if (found->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = found->graph;
  return CUDA_SUCCESS;
}

CUresult emulated::cuLaunchHostFunc(CUstream handle, CUhostFn function, void* argument) {
  ENTER_CONTEXT(cuLaunchHostFunc);
  const auto stream = find_stream(handle, *context);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!function) return CUDA_ERROR_INVALID_VALUE;
  const HostCall call{function, argument};
  const auto captured = driver::capture(*stream, [&](Work& work) {
    work = call;
    return CUDA_SUCCESS;
  });
  if (captured) return *captured;
  stream->enqueue([call](simt::Worker&) { run_host_call(call); });
  return CUDA_SUCCESS;
}
