// Arenas: one allocation each, made once; transfers to and from them go through the staging memory.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

bool em_arena_create(em_device *device, const char *kind, uint64_t bytes, bool zeroed, em_arena **created,
                     em_error *error) {
  if (!em_device_enter_submit(device, error)) return false;
  em_arena *arena = calloc(1, sizeof *arena);
  bool good = arena || em_fail(error, "out_of_memory", "no host memory for arena '%s'", kind);
  if (good) {
    arena->references = 1;
    arena->device = device;
    arena->bytes = bytes;
    em_copy_text(arena->kind, sizeof arena->kind, kind);
  }
  if (good && bytes > 0) {
    size_t now = 0, total = 0;
    good = EM_CALL(device, error, cuMemAlloc, &arena->address, bytes);
    if (!good && error->cuda_error == CUDA_ERROR_OUT_OF_MEMORY &&
        device->driver->cuMemGetInfo(&now, &total) == CUDA_SUCCESS) {
      const em_error cause = *error;
      em_fail(error, "out_of_memory", "arena '%s' needs %llu bytes, the device has %zu of %zu free", kind,
              (unsigned long long)bytes, now, total);
      error->call = cause.call;
      error->cuda_error = cause.cuda_error;
      memcpy(error->cuda_name, cause.cuda_name, sizeof error->cuda_name);
    }
    if (good && zeroed) {
      good = EM_CALL(device, error, cuMemsetD8Async, arena->address, 0, bytes, device->stream);
      if (!good) device->driver->cuMemFree(arena->address);
    }
  }
  if (good) {
    em_device_retain(device);
    arena->next = device->arenas;
    device->arenas = arena;
    *created = arena;
  } else {
    free(arena);
  }
  em_device_leave(device);
  return good;
}

void em_arena_free(em_arena *arena) {
  if (arena->address) arena->device->driver->cuMemFree(arena->address);
  arena->address = 0;
}

void em_arena_retain(em_arena *arena) { atomic_fetch_add(&arena->references, 1); }

void em_arena_release(em_arena *arena) {
  if (atomic_fetch_sub(&arena->references, 1) > 1) return;
  em_device *device = arena->device;
  pthread_mutex_lock(&device->mutex);
  em_arena **link = &device->arenas;
  while (*link != arena) link = &(*link)->next;
  *link = arena->next;
  if (!device->closed) {
    // Freeing waits for the device, so work that still uses the arena ends first.
    device->driver->cuCtxSetCurrent(device->context->handle);
    em_arena_free(arena);
  }
  pthread_mutex_unlock(&device->mutex);
  free(arena);
  em_device_release(device);
}

uint64_t em_arena_bytes(const em_arena *arena) { return arena->bytes; }

static bool check_range(const em_arena *arena, uint64_t offset, uint64_t count, em_error *error) {
  return (offset <= arena->bytes && count <= arena->bytes - offset) ||
         em_fail(error, "invalid_argument", "%llu bytes at %llu leave arena '%s' of %llu bytes",
                 (unsigned long long)count, (unsigned long long)offset, arena->kind,
                 (unsigned long long)arena->bytes);
}

static size_t piece(uint64_t left) { return left < EM_STAGING_BYTES ? (size_t)left : EM_STAGING_BYTES; }

bool em_arena_write(em_arena *arena, uint64_t offset, const void *bytes, uint64_t count, em_error *error) {
  em_device *device = arena->device;
  if (!check_range(arena, offset, count, error) || !em_device_enter_submit(device, error)) return false;
  bool good = true;
  for (uint64_t done = 0; good && done < count;) {
    const size_t size = piece(count - done);
    em_part part;
    good = em_staging_take(device, &device->upload, size, &part, error);
    if (!good) break;
    memcpy(part.memory, (const uint8_t *)bytes + done, size);
    good = EM_CALL(device, error, cuMemcpyHtoDAsync, arena->address + offset + done, part.memory, size,
                   device->stream) &&
           em_staging_submitted(device, &device->upload, part, error);
    em_staging_give_back(device, &device->upload, part);
    done += size;
  }
  em_device_leave(device);
  return good;
}

static bool read_fully(int file, uint8_t *to, size_t count, uint64_t offset, const char *path, em_error *error) {
  for (size_t done = 0; done < count;) {
    const ssize_t got = pread(file, to + done, count - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return em_fail(error, "io", "can't read %s: %s", path, strerror(errno));
    if (got == 0)
      return em_fail(error, "invalid_format", "%s ends at byte %llu, %zu bytes before what is asked for", path,
                     (unsigned long long)(offset + done), count - done);
    done += (size_t)got;
  }
  return true;
}

bool em_arena_write_file(em_arena *arena, uint64_t offset, const char *path, uint64_t file_offset, uint64_t count,
                         em_error *error) {
  em_device *device = arena->device;
  if (!check_range(arena, offset, count, error)) return false;
  if (count > 0 && (file_offset > INT64_MAX || count > INT64_MAX - file_offset))
    return em_fail(error, "invalid_argument", "%s has no byte %llu", path, (unsigned long long)file_offset);
  // Read straight into the pinned buffer: mapping the file costs a page fault per page, and a file that shrinks
  // meanwhile would be a signal instead of an error.
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return em_fail(error, errno == ENOENT ? "not_found" : "io", "can't open %s: %s", path, strerror(errno));
  // Goes on beside a large read: a host's threads that wait here could be those that would finish it.
  if (!em_device_enter(device, error)) {
    close(file);
    return false;
  }
  bool good = true;
  for (uint64_t done = 0; good && done < count;) {
    const size_t size = piece(count - done);
    em_part part;
    good = em_staging_take(device, &device->upload, size, &part, error);
    if (!good) break;
    em_device_begin_wait(device);
    good = read_fully(file, part.memory, size, file_offset + done, path, error);
    em_device_end_wait(device);
    if (good && device->closed) good = em_fail(error, "invalid_argument", "the device is closed; open it again");
    good = good &&
           EM_CALL(device, error, cuMemcpyHtoDAsync, arena->address + offset + done, part.memory, size,
                   device->stream) &&
           em_staging_submitted(device, &device->upload, part, error);
    em_staging_give_back(device, &device->upload, part);
    done += size;
  }
  em_device_leave(device);
  close(file);
  return good;
}

bool em_arena_fill(em_arena *arena, uint8_t byte, em_error *error) {
  em_device *device = arena->device;
  if (!em_device_enter_submit(device, error)) return false;
  const bool good = arena->bytes == 0 || EM_CALL(device, error, cuMemsetD8Async, arena->address, byte,
                                                 arena->bytes, device->stream);
  em_device_leave(device);
  return good;
}
