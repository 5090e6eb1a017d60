// Checks of streams, events and graphs.
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
  OK(cuGraphInstantiate(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  EXPECT(cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuGraphInstantiate(&executable, graph, 0), CUDA_ERROR_INVALID_VALUE);
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

int main(int count, char** arguments) {
  return run_check(count, arguments, {{"streams_and_events", streams_and_events}, {"graphs", graphs}});
}
