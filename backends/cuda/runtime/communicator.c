// NCCL communicators: one for each channel of a group, so that channels do not wait for each other. They do not block:
// calls that take long are asked for their state, so that a peer that never comes is an error instead of a hang.
//
// A lost peer leaves kernels behind that wait for ever, and with them every wait for the device. So a thread of the
// device looks for errors: it names the loss as the context's, then aborts the communicators, which ends those kernels.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

enum { WATCH_MS = 50, POLL_MS = 1, FINALIZE_MS = 2000 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void pause_ms(int milliseconds) {
  const struct timespec time = {0, milliseconds * 1000000l};
  nanosleep(&time, NULL);
}

static bool failed(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

// NCCL's state of a communicator; with a call that itself failed, that.
static ncclResult_t state_of(const em_nccl *nccl, ncclComm_t handle, ncclResult_t result) {
  ncclResult_t state = result;
  if (!failed(result)) {
    const ncclResult_t asked = nccl->ncclCommGetAsyncError(handle, &state);
    if (asked != ncclSuccess) state = asked;
  }
  return state;
}

// Makes the error that of the context; the first one wins.
static void lose(em_device *device, em_error *error) {
  error->code = "device_lost";
  em_context_lose(device->context, error);
}

// With the watch's mutex, or without a watch: ends the communicators that no call is using.
static void abort_idle(em_device *device) {
  for (em_communicator *one = device->watch.communicators; one; one = one->next)
    if (one->handle && !one->busy) {
      one->nccl->ncclCommAbort(one->handle);
      one->handle = NULL;
    }
}

static void describe(const em_communicator *communicator, em_error *error) {
  char text[sizeof error->message];
  em_copy_text(text, sizeof text, error->message);
  const char *call = error->call;
  em_fail(error, error->code, "group '%.64s' channel %u, member %u of %u: %.800s", communicator->group,
          communicator->channel, communicator->member, communicator->size, text);
  error->call = call;
}

static void *watch(void *argument) {
  em_device *device = argument;
  em_watch *watch = &device->watch;
  device->driver->cuCtxSetCurrent(device->context->handle);
  pthread_mutex_lock(&watch->mutex);
  while (!watch->stopping) {
    for (em_communicator *one = watch->communicators; one; one = one->next) {
      const ncclResult_t state =
          one->handle && !one->busy ? state_of(one->nccl, one->handle, ncclSuccess) : ncclSuccess;
      if (!failed(state)) continue;
      em_error error;
      em_check_nccl(one->nccl, one->handle, state, "an exchange", &error);
      describe(one, &error);
      lose(device, &error);
    }
    // Also after a fault of a kernel: peers learn of it by this.
    if (atomic_load(&device->context->lost)) abort_idle(device);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WATCH_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000l;
    until.tv_nsec %= 1000000000l;
    pthread_cond_timedwait(&watch->changed, &watch->mutex, &until);
  }
  pthread_mutex_unlock(&watch->mutex);
  return NULL;
}

// Waits, without the device's mutex, until the peers are connected.
static bool connect_peers(em_communicator *communicator, ncclUniqueId id, em_error *error) {
  em_device *device = communicator->device;
  const em_nccl *nccl = communicator->nccl;
  ncclConfig_t config = {
      .size = sizeof config,
      .magic = NCCL_CONFIG_MAGIC,
      .version = NCCL_CONFIG_VERSION,
      .blocking = 0,
      .cgaClusterSize = NCCL_CONFIG_UNDEFINED,
      .minCTAs = NCCL_CONFIG_UNDEFINED,
      .maxCTAs = NCCL_CONFIG_UNDEFINED,
  };
  const double deadline = now() + communicator->seconds;
  em_device_begin_wait(device);
  ncclResult_t state = nccl->ncclCommInitRankConfig(&communicator->handle, (int)communicator->size, id,
                                                    (int)communicator->member, &config);
  em_device_end_wait(device);
  bool good = true;
  if (communicator->handle) state = state_of(nccl, communicator->handle, state);
  while (good && state == ncclInProgress) {
    if (device->closed)
      good = em_fail(error, "invalid_argument", "the device is closed; open it again");
    else if (now() > deadline)
      good = em_fail(error, "io", "its peers did not connect within %g s", communicator->seconds);
    else {
      em_device_begin_wait(device);
      pause_ms(POLL_MS);
      em_device_end_wait(device);
      state = state_of(nccl, communicator->handle, ncclSuccess);
    }
  }
  good = good && em_check_nccl(nccl, communicator->handle, state, "ncclCommInitRankConfig", error);
  if (!good) describe(communicator, error);
  return good;
}

// Adds it to those that are watched.
static bool begin_watch(em_communicator *communicator, em_error *error) {
  em_watch *seen = &communicator->device->watch;
  pthread_mutex_lock(&seen->mutex);
  const bool good = seen->running || pthread_create(&seen->thread, NULL, watch, communicator->device) == 0 ||
                    em_fail(error, "out_of_memory", "no thread to watch communicators with");
  if (good) {
    seen->running = true;
    communicator->next = seen->communicators;
    seen->communicators = communicator;
  }
  pthread_mutex_unlock(&seen->mutex);
  return good;
}

bool em_communicator_create(em_device *device, const char *path, em_communicator_place place,
                            const uint8_t id[EM_NCCL_ID_BYTES], double seconds, em_communicator **created,
                            em_error *error) {
  const em_nccl *nccl;
  if (place.size > INT32_MAX || place.member >= place.size)
    return em_fail(error, "invalid_argument", "no member %u of group '%s', which has %u", place.member, place.group,
                   place.size);
  if (!em_nccl_open(path, &nccl, error) || !em_device_enter(device, error)) return false;
  em_communicator *made = calloc(1, sizeof *made);
  bool good = made || em_fail(error, "out_of_memory", "no host memory for a communicator");
  if (good) {
    made->references = 1;
    made->device = device;
    made->nccl = nccl;
    em_copy_text(made->group, sizeof made->group, place.group);
    made->channel = place.channel;
    made->member = place.member;
    made->size = place.size;
    made->seconds = seconds;
    ncclUniqueId copy;
    memcpy(&copy, id, sizeof copy);
    good = (device->aside || EM_CALL(device, error, cuStreamCreate, &device->aside, CU_STREAM_NON_BLOCKING)) &&
           EM_CALL(device, error, cuStreamCreate, &made->stream, CU_STREAM_NON_BLOCKING) &&
           connect_peers(made, copy, error) && begin_watch(made, error);
  }
  if (good) {
    em_device_retain(device);
    *created = made;
  } else if (made) {
    if (made->handle) nccl->ncclCommAbort(made->handle);
    if (made->stream) device->driver->cuStreamDestroy(made->stream);
    free(made);
  }
  em_device_leave(device);
  return good;
}

bool em_communicator_issue(em_communicator *communicator, const em_nccl_message *messages, size_t count,
                           CUstream stream, em_error *error) {
  em_device *device = communicator->device;
  const em_nccl *nccl = communicator->nccl;
  pthread_mutex_lock(&device->watch.mutex);
  const ncclComm_t handle = communicator->handle;
  communicator->busy = handle != NULL;
  pthread_mutex_unlock(&device->watch.mutex);
  if (!handle) {
    // The watch has ended it; the context says why.
    em_fail(error, "device_lost", "its communicator has ended");
    em_context_lose(device->context, error);
    return false;
  }
  const double deadline = now() + communicator->seconds;
  const char *call = "ncclGroupStart";
  ncclResult_t state = nccl->ncclGroupStart();
  const bool started = state == ncclSuccess;
  for (size_t i = 0; i < count && !failed(state); i++) {
    const em_nccl_message *one = &messages[i];
    void *address = (void *)(uintptr_t)one->address;
    call = one->is_send ? "ncclSend" : "ncclRecv";
    state = one->is_send ? nccl->ncclSend(address, one->bytes, ncclInt8, (int)one->peer, handle, stream)
                         : nccl->ncclRecv(address, one->bytes, ncclInt8, (int)one->peer, handle, stream);
  }
  if (started) {
    const ncclResult_t ended = nccl->ncclGroupEnd();
    if (!failed(state)) {
      call = "ncclGroupEnd";
      state = state_of(nccl, handle, ended);
    }
  }
  bool good = true;
  while (good && state == ncclInProgress) {
    if (now() > deadline)
      good = em_fail(error, "io", "its peers did not join within %g s", communicator->seconds);
    else if (atomic_load(&device->context->lost))
      good = em_fail(error, "io", "another communicator of the device was lost");
    else {
      pause_ms(POLL_MS);
      state = state_of(nccl, handle, ncclSuccess);
    }
  }
  good = good && em_check_nccl(nccl, handle, state, call, error);
  pthread_mutex_lock(&device->watch.mutex);
  communicator->busy = false;
  if (!good) {
    describe(communicator, error);
    lose(device, error);
    abort_idle(device);
  }
  pthread_mutex_unlock(&device->watch.mutex);
  return good;
}

// Lets NCCL finish what it still has under way for the peers. No graph holds the communicator any more.
static void end(em_communicator *communicator) {
  const em_nccl *nccl = communicator->nccl;
  const ncclComm_t handle = communicator->handle;
  if (communicator->stream) communicator->device->driver->cuStreamDestroy(communicator->stream);
  communicator->stream = NULL;
  if (!handle) return;
  communicator->handle = NULL;
  const double deadline = now() + 1e-3 * FINALIZE_MS;
  ncclResult_t state = state_of(nccl, handle, nccl->ncclCommFinalize(handle));
  while (state == ncclInProgress && now() < deadline) {
    pause_ms(POLL_MS);
    state = state_of(nccl, handle, ncclSuccess);
  }
  if (state == ncclSuccess)
    nccl->ncclCommDestroy(handle);
  else
    nccl->ncclCommAbort(handle);
}

void em_watch_drain(em_device *device) {
  const em_driver *driver = device->driver;
  CUevent done = NULL;
  if (!device->watch.running || driver->cuEventCreate(&done, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS) return;
  const double deadline = now() + 1e-3 * FINALIZE_MS;
  em_error ignored;
  const bool waits = em_device_record(device, done, &ignored);
  while (waits && driver->cuEventQuery(done) == CUDA_ERROR_NOT_READY && now() < deadline) pause_ms(POLL_MS);
  if (waits && driver->cuEventQuery(done) == CUDA_ERROR_NOT_READY) {
    pthread_mutex_lock(&device->watch.mutex);
    abort_idle(device);
    pthread_mutex_unlock(&device->watch.mutex);
  }
  driver->cuEventDestroy(done);
}

void em_watch_end(em_device *device) {
  em_watch *seen = &device->watch;
  pthread_mutex_lock(&seen->mutex);
  const bool running = seen->running;
  seen->stopping = true;
  pthread_cond_broadcast(&seen->changed);
  pthread_mutex_unlock(&seen->mutex);
  if (running) pthread_join(seen->thread, NULL);
  seen->running = false;
  if (atomic_load(&device->context->lost)) abort_idle(device);
  for (em_communicator *one = seen->communicators; one; one = one->next) end(one);
}

void em_communicator_retain(em_communicator *communicator) { atomic_fetch_add(&communicator->references, 1); }

void em_communicator_release(em_communicator *communicator) {
  if (atomic_fetch_sub(&communicator->references, 1) > 1) return;
  em_device *device = communicator->device;
  pthread_mutex_lock(&device->mutex);
  pthread_mutex_lock(&device->watch.mutex);
  em_communicator **link = &device->watch.communicators;
  while (*link != communicator) link = &(*link)->next;
  *link = communicator->next;
  pthread_mutex_unlock(&device->watch.mutex);
  if (!device->closed) {
    device->driver->cuCtxSetCurrent(device->context->handle);
    end(communicator);
  }
  pthread_mutex_unlock(&device->mutex);
  free(communicator);
  em_device_release(device);
}
