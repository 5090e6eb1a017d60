// Streams execute on threads of their own, so a host that does not wait reads old bytes, as on a GPU.
#include "driver.h"
#include <cstring>

#pragma GCC visibility push(hidden)

namespace driver {

Table<CUstream, Stream>& streams() {
  static auto& table = *new Table<CUstream, Stream>();
  return table;
}
Table<CUevent, Event>& events() {
  static auto& table = *new Table<CUevent, Event>();
  return table;
}

// Outlives the stream's handle until its thread has drained it.
struct Stream::Queue {
  std::mutex mutex;
  std::condition_variable changed;
  struct Entry {
    Operation run;
    bool always;
  };
  std::deque<Entry> entries;
  uint64_t enqueued = 0, executed = 0;
  bool closed = false;
  std::shared_ptr<Context> context;
};

Stream::Stream(std::shared_ptr<Context> context) : context(std::move(context)), queue_(std::make_shared<Queue>()) {
  queue_->context = this->context;
  std::thread(&Stream::execute, queue_).detach();
}

Stream::~Stream() {
  const std::lock_guard lock(queue_->mutex);
  queue_->closed = true;
  queue_->changed.notify_all();
}

void Stream::enqueue(Operation operation, bool always) {
  context->add_work();
  const std::lock_guard lock(queue_->mutex);
  queue_->entries.push_back({std::move(operation), always});
  queue_->enqueued++;
  queue_->changed.notify_all();
}

void Stream::synchronize() {
  std::unique_lock lock(queue_->mutex);
  const uint64_t target = queue_->enqueued;
  queue_->changed.wait(lock, [&] { return queue_->executed >= target; });
}

void Stream::execute(std::shared_ptr<Queue> queue) {
  simt::Worker worker;
  std::unique_lock lock(queue->mutex);
  for (;;) {
    queue->changed.wait(lock, [&] { return queue->closed || !queue->entries.empty(); });
    if (queue->entries.empty()) return;
    Queue::Entry entry = std::move(queue->entries.front());
    queue->entries.pop_front();
    lock.unlock();
    if (entry.always || queue->context->sticky == CUDA_SUCCESS) entry.run(worker);
    // Its parameters go before anybody learns that it is done.
    entry.run = nullptr;
    queue->context->remove_work();
    lock.lock();
    queue->executed++;
    queue->changed.notify_all();
  }
}

std::shared_ptr<Stream> find_stream(CUstream handle, Context& context) {
  return handle ? streams().find(handle) : context.default_stream();
}

static std::shared_ptr<Completion> last_of(Event& event) {
  const std::lock_guard lock(event.mutex);
  return event.last;
}

}  // namespace driver

using namespace driver;

#define FIND_ANY_STREAM(handle)                                         \
  const std::shared_ptr<Stream> stream = find_stream(handle, *context); \
  if (!stream) return CUDA_ERROR_INVALID_HANDLE
// For calls that can't be captured.
#define FIND_STREAM(handle) \
  FIND_ANY_STREAM(handle);  \
  if (const CUresult captures = refuse_capturing(*stream, __func__)) return captures
#define FIND_EVENT(handle)                                     \
  const std::shared_ptr<Event> event = events().find(handle); \
  if (!event) return CUDA_ERROR_INVALID_HANDLE

CUresult emulated::cuStreamCreate(CUstream* handle, unsigned int flags) {
  ENTER_CONTEXT(cuStreamCreate);
  if (flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  *handle = streams().add(std::make_shared<Stream>(context));
  return CUDA_SUCCESS;
}

CUresult emulated::cuStreamDestroy(CUstream handle) {
  ENTER_CONTEXT(cuStreamDestroy);
  if (const auto stream = streams().find(handle))
    if (const CUresult captures = refuse_capturing(*stream, __func__)) return captures;
  return streams().remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult emulated::cuStreamSynchronize(CUstream handle) {
  ENTER_CONTEXT(cuStreamSynchronize);
  FIND_STREAM(handle);
  REFUSE_UNSAFE(cuStreamSynchronize);
  stream->synchronize();
  return stream->context->sticky;
}

CUresult emulated::cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned int flags) {
  ENTER_CONTEXT(cuStreamWaitEvent);
  FIND_STREAM(handle);
  FIND_EVENT(event_handle);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (const auto last = last_of(*event)) stream->enqueue([last](simt::Worker&) { last->done.wait(false); }, true);
  return CUDA_SUCCESS;
}

CUresult emulated::cuEventCreate(CUevent* handle, unsigned int flags) {
  ENTER_CONTEXT(cuEventCreate);
  // 1 waits without spinning, 2 keeps no time.
  if (flags > 3) return CUDA_ERROR_INVALID_VALUE;
  const auto event = std::make_shared<Event>();
  event->context = context;
  event->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  *handle = events().add(event);
  return CUDA_SUCCESS;
}

CUresult emulated::cuEventRecord(CUevent event_handle, CUstream handle) {
  ENTER_CONTEXT(cuEventRecord);
  FIND_EVENT(event_handle);
  FIND_STREAM(handle);
  if (event->context.lock() != stream->context) return CUDA_ERROR_INVALID_HANDLE;
  const auto completion = std::make_shared<Completion>();
  {
    const std::lock_guard lock(event->mutex);
    event->last = completion;
  }
  const auto complete = [completion](simt::Worker&) {
    completion->time = std::chrono::steady_clock::now();
    completion->done = true;
    completion->done.notify_all();
  };
  stream->enqueue(complete, true);
  return CUDA_SUCCESS;
}

CUresult emulated::cuEventQuery(CUevent handle) {
  ENTER_CONTEXT(cuEventQuery);
  REFUSE_UNSAFE(cuEventQuery);
  FIND_EVENT(handle);
  const auto last = last_of(*event);
  return last && !last->done ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult emulated::cuEventSynchronize(CUevent handle) {
  ENTER_CONTEXT(cuEventSynchronize);
  REFUSE_UNSAFE(cuEventSynchronize);
  FIND_EVENT(handle);
  if (const auto last = last_of(*event)) last->done.wait(false);
  return context->sticky;
}

CUresult emulated::cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  ENTER_CONTEXT(cuEventElapsedTime);
  const auto first = events().find(start), second = events().find(end);
  if (!first || !second || !first->timing || !second->timing) return CUDA_ERROR_INVALID_HANDLE;
  const auto from = last_of(*first), to = last_of(*second);
  if (!from || !to) return CUDA_ERROR_INVALID_HANDLE;
  if (!from->done || !to->done) return CUDA_ERROR_NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return CUDA_SUCCESS;
}

CUresult emulated::cuEventDestroy(CUevent handle) {
  ENTER_CONTEXT(cuEventDestroy);
  return events().remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static void* host(CUdeviceptr address) { return reinterpret_cast<void*>(static_cast<uintptr_t>(address)); }

// From pageable memory the bytes are those of the moment of the call; from pinned memory those of the execution.
CUresult emulated::cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream handle) {
  ENTER_CONTEXT(cuMemcpyHtoDAsync);
  FIND_STREAM(handle);
  if (bytes == 0) return CUDA_SUCCESS;
  if (!is_device_range(to, bytes) || !from) return CUDA_ERROR_INVALID_VALUE;
  if (is_pinned(from, bytes)) {
    stream->enqueue([=](simt::Worker&) { std::memcpy(host(to), from, bytes); });
    return CUDA_SUCCESS;
  }
  const auto* source = static_cast<const unsigned char*>(from);
  const auto snapshot = std::make_shared<const std::vector<unsigned char>>(source, source + bytes);
  stream->enqueue([=](simt::Worker&) { std::memcpy(host(to), snapshot->data(), bytes); });
  return CUDA_SUCCESS;
}

// Into pageable memory the call returns when the bytes are there.
CUresult emulated::cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream handle) {
  ENTER_CONTEXT(cuMemcpyDtoHAsync);
  FIND_STREAM(handle);
  if (bytes == 0) return CUDA_SUCCESS;
  if (!is_device_range(from, bytes) || !to) return CUDA_ERROR_INVALID_VALUE;
  stream->enqueue([=](simt::Worker&) { std::memcpy(to, host(from), bytes); });
  if (is_pinned(to, bytes)) return CUDA_SUCCESS;
  stream->synchronize();
  return context->sticky;
}

CUresult emulated::cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle) {
  ENTER_CONTEXT(cuMemcpyDtoDAsync);
  FIND_ANY_STREAM(handle);
  if (bytes == 0) return CUDA_SUCCESS;
  if (!is_device_range(to, bytes) || !is_device_range(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  const auto captured = driver::capture(*stream, [&](Work& work) {
    work = device_copy(to, from, bytes);
    return CUDA_SUCCESS;
  });
  if (captured) return *captured;
  stream->enqueue([=](simt::Worker&) { std::memmove(host(to), host(from), bytes); });
  return CUDA_SUCCESS;
}

CUresult emulated::cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream handle) {
  ENTER_CONTEXT(cuMemsetD8Async);
  FIND_STREAM(handle);
  if (bytes == 0) return CUDA_SUCCESS;
  if (!is_device_range(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  stream->enqueue([=](simt::Worker&) { std::memset(host(to), value, bytes); });
  return CUDA_SUCCESS;
}
