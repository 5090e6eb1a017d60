// Reading arenas. What fits the staging memory is copied in order with other work when the read begins; a larger read
// keeps other work from starting until it has ended, so that it too sees one moment.
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct em_read {
  em_arena *arena;
  uint64_t offset, count;
  bool large;
  em_part part;
  uint64_t submission;
};

// Submits the copy of one piece.
static bool submit_piece(em_read *read, uint64_t done, em_part *part, em_error *error) {
  em_device *device = read->arena->device;
  const uint64_t left = read->count - done;
  const size_t size = left < EM_STAGING_BYTES ? (size_t)left : EM_STAGING_BYTES;
  if (!em_staging_take(device, &device->download, size, part, error)) return false;
  if (EM_CALL(device, error, cuMemcpyDtoHAsync, part->memory, read->arena->address + read->offset + done, size,
              device->stream) &&
      em_staging_submitted(device, &device->download, *part, error))
    return true;
  em_staging_give_back(device, &device->download, *part);
  return false;
}

bool em_read_begin(em_arena *arena, uint64_t offset, uint64_t count, em_read **begun, em_error *error) {
  em_device *device = arena->device;
  if (offset > arena->bytes || count > arena->bytes - offset)
    return em_fail(error, "invalid_argument", "%llu bytes at %llu leave arena '%s' of %llu bytes",
                   (unsigned long long)count, (unsigned long long)offset, arena->kind,
                   (unsigned long long)arena->bytes);
  em_read *read = calloc(1, sizeof *read);
  if (!read) return em_fail(error, "out_of_memory", "no host memory for a read");
  *read = (em_read){.arena = arena, .offset = offset, .count = count, .large = count > EM_STAGING_BYTES};
  if (!em_device_enter_submit(device, error)) {
    free(read);
    return false;
  }
  read->submission = device->submitted;
  bool good = true;
  if (read->large)
    device->exclusive = true;
  else if (count > 0)
    good = submit_piece(read, 0, &read->part, error);
  if (good) {
    atomic_fetch_add(&arena->references, 1);
    *begun = read;
  } else {
    free(read);
  }
  em_device_leave(device);
  return good;
}

// Waits for the transfer of a part, without the mutex.
static bool wait_part(em_device *device, em_part part, em_error *error) {
  const CUevent event = device->download.buffers[part.buffer].transferred;
  em_device_begin_wait(device);
  const CUresult result = device->driver->cuEventSynchronize(event);
  em_device_end_wait(device);
  return em_check(device, result, "cuEventSynchronize", error);
}

// Two pieces are under way at a time: one is transferred while the host copies the other.
static bool finish_large(em_read *read, uint8_t *bytes, em_error *error) {
  em_device *device = read->arena->device;
  em_part parts[2];
  uint64_t submitted = 0;
  bool good = submit_piece(read, 0, &parts[0], error);
  if (!good) return false;
  submitted = EM_STAGING_BYTES;
  for (uint64_t done = 0, i = 0; done < read->count; done += EM_STAGING_BYTES, i++) {
    const bool more = good && submitted < read->count;
    bool next = false;
    if (more) {
      next = good = submit_piece(read, submitted, &parts[(i + 1) % 2], error);
      submitted += EM_STAGING_BYTES;
    }
    if (good) good = wait_part(device, parts[i % 2], error);
    if (good) {
      const uint64_t left = read->count - done;
      em_device_begin_wait(device);
      memcpy(bytes + done, parts[i % 2].memory, left < EM_STAGING_BYTES ? (size_t)left : EM_STAGING_BYTES);
      em_device_end_wait(device);
    }
    em_staging_give_back(device, &device->download, parts[i % 2]);
    if (!good) {
      if (next) em_staging_give_back(device, &device->download, parts[(i + 1) % 2]);
      return false;
    }
  }
  return true;
}

static bool finish_small(em_read *read, uint8_t *bytes, em_error *error) {
  em_device *device = read->arena->device;
  if (read->count == 0) return true;
  const bool good = wait_part(device, read->part, error);
  if (good) {
    em_device_begin_wait(device);
    memcpy(bytes, read->part.memory, (size_t)read->count);
    em_device_end_wait(device);
  }
  em_staging_give_back(device, &device->download, read->part);
  return good;
}

// A read that ends on a closed or lost device still lets go of what others wait for.
static void abandon(em_read *read) {
  em_device *device = read->arena->device;
  pthread_mutex_lock(&device->mutex);
  if (read->large)
    device->exclusive = false;
  else if (read->count > 0 && !device->closed)
    em_staging_give_back(device, &device->download, read->part);
  pthread_cond_broadcast(&device->changed);
  pthread_mutex_unlock(&device->mutex);
}

bool em_read_finish(em_read *read, void *bytes, em_error *error) {
  em_arena *arena = read->arena;
  em_device *device = arena->device;
  const bool entered = em_device_enter(device, error);
  bool good = false;
  if (entered) {
    good = read->large ? finish_large(read, bytes, error) : finish_small(read, bytes, error);
    if (good) em_device_completed(device, read->submission);
    if (read->large) device->exclusive = false;
    pthread_cond_broadcast(&device->changed);
    em_device_leave(device);
  } else {
    abandon(read);
  }
  free(read);
  em_arena_release(arena);
  return good;
}
