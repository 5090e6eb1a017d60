// Checks of streams, events and graphs.
#include <atomic>
#include <functional>
#include <thread>
#include "checks.h"

static void streams_and_events() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  const CUfunction slow = kernel(library, "slow"), append = kernel(library, "append");
  CUdeviceptr out, list;
  OK(cuMemAlloc(&out, 4));
  OK(cuMemAlloc(&list, 256));
  OK(cuMemsetD8Async(list, 0, 256, nullptr));
  OK(cuStreamSynchronize(nullptr));
  CUstream a, b;
  OK(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
  OK(cuStreamCreate(&b, 0));
  EXPECT(cuStreamCreate(&b, 2), CUDA_ERROR_INVALID_VALUE);
  CUevent start, end, untimed;
  OK(cuEventCreate(&start, 0));
  OK(cuEventCreate(&end, 0));
  OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
  EXPECT(cuEventCreate(&end, 8), CUDA_ERROR_INVALID_VALUE);
  float milliseconds = -1;
  OK(cuEventQuery(start));
  OK(cuEventSynchronize(start));
  OK(cuStreamWaitEvent(b, end, 0));
  EXPECT(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventRecord(start, a));
  OK(launch(slow, 1, 1, {out, 20000000}, a));
  OK(launch(append, 1, 1, {list, 1}, a));
  OK(cuEventRecord(end, a));
  EXPECT(cuEventQuery(end), CUDA_ERROR_NOT_READY);
  EXPECT(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
  OK(cuStreamWaitEvent(b, end, 0));
  // A wait is for the record before it, not for a later one.
  OK(launch(append, 1, 1, {list, 2}, b));
  OK(cuStreamSynchronize(b));
  OK(cuEventQuery(end));
  OK(cuEventSynchronize(end));
  EXPECT(word(list), 2);
  EXPECT(word(list + 4), 1);
  EXPECT(word(list + 8), 2);
  OK(cuEventElapsedTime(&milliseconds, start, end));
  EXPECT(milliseconds > 0, 1);
  OK(cuEventRecord(untimed, a));
  OK(cuEventSynchronize(untimed));
  EXPECT(cuEventElapsedTime(&milliseconds, start, untimed), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventDestroy(start));
  EXPECT(cuEventDestroy(start), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuEventRecord(start, a), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuEventRecord(end, no_stream), CUDA_ERROR_INVALID_HANDLE);
  // A stream that is destroyed still finishes its work.
  OK(launch(slow, 1, 1, {out, 2000000}, a));
  OK(launch(append, 1, 1, {list, 3}, a));
  OK(cuEventRecord(end, a));
  OK(cuStreamDestroy(a));
  EXPECT(cuStreamSynchronize(a), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventSynchronize(end));
  EXPECT(word(list), 3);
  // Memory is freed when nothing can use it any more.
  OK(launch(slow, 1, 1, {out, 2000000}, b));
  OK(launch(append, 1, 1, {list, 4}, b));
  OK(cuMemcpyDtoDAsync(list + 128, list, 128, b));
  OK(cuStreamDestroy(b));
  OK(cuMemFree(list));
  OK(cuDevicePrimaryCtxReset(0));
  OK(cuMemAlloc(&out, 4));
}

static CUresult add_append(CUgraphNode* node, CUgraph graph, std::vector<CUgraphNode> after, CUfunction function,
                           CUdeviceptr list, uint32_t value) {
  void* parameters[] = {&list, &value};
  CUDA_KERNEL_NODE_PARAMS given{};
  given.func = function;
  given.gridDimX = given.gridDimY = given.gridDimZ = given.blockDimX = given.blockDimY = given.blockDimZ = 1;
  given.kernelParams = parameters;
  const CUresult result = cuGraphAddKernelNode(node, graph, after.data(), after.size(), &given);
  // Parameters were copied.
  value = 99;
  return result;
}

static void graphs() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  const CUfunction append = kernel(library, "append");
  CUdeviceptr list;
  OK(cuMemAlloc(&list, 256));
  OK(cuMemsetD8Async(list, 0, 256, nullptr));
  CUgraph graph, other;
  EXPECT(cuGraphCreate(&graph, 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphCreate(&graph, 0));
  OK(cuGraphCreate(&other, 0));
  CUgraphNode first, second, third, foreign;
  OK(add_append(&first, graph, {}, append, list, 1));
  OK(add_append(&second, graph, {first}, append, list, 2));
  OK(add_append(&third, graph, {first, second}, append, list, 3));
  OK(add_append(&foreign, other, {}, append, list, 4));
  CUgraphNode none;
  EXPECT(add_append(&none, graph, {foreign}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, graph, {first, first}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, graph, {}, nullptr, list, 5), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(add_append(&none, reinterpret_cast<CUgraph>(8), {}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = list;
  copy.dstDevice = list + 128;
  copy.WidthInBytes = 16;
  copy.Height = copy.Depth = 1;
  OK(cuGraphAddMemcpyNode(&none, graph, &third, 1, &copy, context));
  copy.WidthInBytes = 200;
  EXPECT(cuGraphAddMemcpyNode(&none, graph, nullptr, 0, &copy, context), CUDA_ERROR_INVALID_VALUE);

  CUgraphExec executable;
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  EXPECT(cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT(add_append(&none, other, {first}, append, list, 5), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphUpload(executable, nullptr));
  OK(cuGraphLaunch(executable, nullptr));
  OK(cuStreamSynchronize(nullptr));
  for (uint32_t i = 0; i < 4; i++) EXPECT(word(list + 128 + 4 * i), i == 0 ? 3 : i);

  // Launches of one executable follow one another on any streams.
  CUstream a, b;
  OK(cuStreamCreate(&a, 1));
  OK(cuStreamCreate(&b, 1));
  for (int i = 0; i < 9; i++) OK(cuGraphLaunch(executable, i % 2 ? a : b));
  OK(cuStreamSynchronize(a));
  OK(cuStreamSynchronize(b));
  EXPECT(word(list), 30);
  EXPECT(cuGraphLaunch(executable, no_stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuGraphExecDestroy(executable));
  EXPECT(cuGraphLaunch(executable, nullptr), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuGraphExecDestroy(executable), CUDA_ERROR_INVALID_VALUE);
}

static CUresult begin_capture(CUstream stream, CUgraph graph, std::vector<CUgraphNode> after, int mode) {
  return cuStreamBeginCaptureToGraph(stream, graph, after.data(), nullptr, after.size(), mode);
}

static CUstreamCaptureStatus status_of(CUstream stream) {
  CUstreamCaptureStatus status = -1;
  OK(cuStreamGetCaptureInfo(stream, &status, nullptr, nullptr, nullptr, nullptr, nullptr));
  return status;
}

static void captures() {
  begin();
  const auto bytes = image();
  const CUlibrary library = load(bytes);
  const CUfunction append = kernel(library, "append");
  CUdeviceptr list, memory;
  OK(cuMemAlloc(&list, 256));
  OK(cuMemsetD8Async(list, 0, 256, nullptr));
  CUgraph graph, other, captured = nullptr;
  CUstream stream;
  CUevent event;
  OK(cuGraphCreate(&graph, 0));
  OK(cuGraphCreate(&other, 0));
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  OK(cuEventCreate(&event, 0));
  CUgraphNode first, foreign, third;
  OK(add_append(&first, graph, {}, append, list, 1));
  OK(add_append(&foreign, other, {}, append, list, 4));
  constexpr int local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
  EXPECT(begin_capture(nullptr, graph, {}, local), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(begin_capture(stream, graph, {foreign}, local), CUDA_ERROR_INVALID_VALUE);
  EXPECT(begin_capture(stream, graph, {first, first}, local), CUDA_ERROR_INVALID_VALUE);
  EXPECT(begin_capture(stream, graph, {first}, 3), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuStreamEndCapture(stream, &captured), CUDA_ERROR_ILLEGAL_STATE);

  // Kernels, copies and host functions become nodes one after the other, and nothing runs meanwhile.
  static std::atomic<int> calls = 0;
  static CUresult inside = CUDA_SUCCESS;
  const auto host = [](void*) {
    CUdeviceptr none;
    inside = cuMemAlloc(&none, 4);
    calls++;
  };
  OK(begin_capture(stream, graph, {first}, local));
  EXPECT(begin_capture(stream, graph, {first}, local), CUDA_ERROR_ILLEGAL_STATE);
  OK(launch(append, 1, 1, {list, 2}, stream));
  OK(cuMemcpyDtoDAsync(list + 128, list, 16, stream));
  OK(cuLaunchHostFunc(stream, host, nullptr));
  const CUgraphNode* last = nullptr;
  const CUgraphEdgeData* edges = nullptr;
  CUstreamCaptureStatus status;
  CUgraph into = nullptr;
  cuuint64_t id = 0;
  size_t count = 0;
  OK(cuStreamGetCaptureInfo(stream, &status, &id, &into, &last, &edges, &count));
  EXPECT(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  EXPECT(into == graph, 1);
  EXPECT(count, 1);
  EXPECT(edges[0].type, 0);
  OK(add_append(&third, graph, {*last}, append, list, 3));
  CUgraphExec executable;
  EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0), CUDA_ERROR_INVALID_VALUE);
  // Other threads are not held up, but can't end the capture.
  std::thread([&] {
    OK(cuCtxSetCurrent(context));
    OK(cuMemAlloc(&memory, 4));
    EXPECT(cuStreamEndCapture(stream, &captured), CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  }).join();
  OK(cuStreamEndCapture(stream, &captured));
  EXPECT(captured == graph, 1);
  EXPECT(status_of(stream), CU_STREAM_CAPTURE_STATUS_NONE);
  EXPECT(word(list), 0);
  EXPECT(calls, 0);
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  for (int i = 0; i < 2; i++) OK(cuGraphLaunch(executable, stream));
  OK(cuStreamSynchronize(stream));
  EXPECT(calls, 2);
  EXPECT(inside, CUDA_ERROR_NOT_PERMITTED);
  EXPECT(word(list), 6);
  for (uint32_t i = 0; i < 3; i++) EXPECT(word(list + 4 + 4 * i), i + 1);
  OK(cuLaunchHostFunc(stream, host, nullptr));
  OK(cuStreamSynchronize(stream));
  EXPECT(calls, 3);

  // What can't be captured ends the capture, as does what could wait for it.
  const std::vector<std::function<CUresult()>> refused = {
    [&] { return cuMemsetD8Async(list, 0, 4, stream); },  [&] { return cuStreamSynchronize(stream); },
    [&] { return cuEventRecord(event, stream); },         [&] { return cuGraphLaunch(executable, stream); },
    [&] { return cuStreamDestroy(stream); },              [&] { return cuMemAlloc(&memory, 4); },
    [&] { return cuMemFree(list); },                      [&] { return cuEventSynchronize(event); },
    [&] { return cuEventQuery(event); },                  [&] { return cuStreamSynchronize(nullptr); },
  };
  for (const auto& call : refused) {
    OK(begin_capture(stream, graph, {first}, local));
    EXPECT(call(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    EXPECT(status_of(stream), CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    EXPECT(launch(append, 1, 1, {list, 2}, stream), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    EXPECT(cuStreamEndCapture(stream, &captured), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    EXPECT(captured == nullptr, 1);
  }
  OK(begin_capture(stream, graph, {}, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuMemAlloc(&memory, 4));
  OK(cuStreamEndCapture(stream, &captured));
}

// Two host functions that wait for each other both run: neither depends on the other.
static void host_functions() {
  begin();
  static std::atomic<int> there = 0;
  const auto meet = [](void*) {
    there++;
    while (there < 2) std::this_thread::yield();
  };
  CUgraph graph, captured;
  CUstream stream;
  CUgraphExec executable;
  OK(cuGraphCreate(&graph, 0));
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  for (int i = 0; i < 2; i++) {
    OK(begin_capture(stream, graph, {}, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(cuLaunchHostFunc(stream, meet, nullptr));
    OK(cuStreamEndCapture(stream, &captured));
  }
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  OK(cuGraphLaunch(executable, stream));
  OK(cuStreamSynchronize(stream));
  EXPECT(there, 2);
}

int main(int count, char** arguments) {
  return run_check(count, arguments, {{"streams_and_events", streams_and_events},
                                       {"graphs", graphs},
                                       {"captures", captures},
                                       {"host_functions", host_functions}});
}
