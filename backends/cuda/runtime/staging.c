// Pinned memory that bytes go through on their way between host and device. The copy engine needs pinned memory to
// work beside the host; pinning once and copying costs less than pinning what the caller gives each time.
#include <string.h>

#include "internal.h"

bool em_staging_create(em_device *device, em_staging *staging, em_error *error) {
  for (int i = 0; i < 2; i++)
    if (!EM_CALL(device, error, cuMemAllocHost, (void **)&staging->buffers[i].memory, EM_STAGING_BYTES) ||
        !EM_CALL(device, error, cuEventCreate, &staging->buffers[i].transferred, CU_EVENT_DISABLE_TIMING))
      return false;
  return true;
}

void em_staging_destroy(em_device *device, em_staging *staging) {
  for (int i = 0; i < 2; i++) {
    if (staging->buffers[i].memory) device->driver->cuMemFreeHost(staging->buffers[i].memory);
    if (staging->buffers[i].transferred) device->driver->cuEventDestroy(staging->buffers[i].transferred);
  }
  memset(staging, 0, sizeof *staging);
}

bool em_staging_take(em_device *device, em_staging *staging, size_t bytes, em_part *part, em_error *error) {
  // Parts start at multiples of 256, as fast as the copy engines go.
  const size_t size = (bytes + 255) & ~(size_t)255;
  for (;;) {
    const unsigned now = staging->current;
    if (staging->buffers[now].used + size <= EM_STAGING_BYTES) {
      *part = (em_part){staging->buffers[now].memory + staging->buffers[now].used, now};
      staging->buffers[now].used += size;
      staging->buffers[now].held++;
      return true;
    }
    const unsigned other = 1 - now;
    if (staging->buffers[other].held == 0) {
      if (!EM_CALL(device, error, cuEventSynchronize, staging->buffers[other].transferred)) return false;
      staging->buffers[other].used = 0;
      staging->current = other;
      continue;
    }
    device->waiting++;
    pthread_cond_wait(&device->changed, &device->mutex);
    device->waiting--;
    if (device->closed) {
      pthread_cond_broadcast(&device->changed);
      return em_fail(error, "invalid_argument", "the device is closed; open it again");
    }
  }
}

bool em_staging_submitted(em_device *device, em_staging *staging, em_part part, em_error *error) {
  return EM_CALL(device, error, cuEventRecord, staging->buffers[part.buffer].transferred, device->stream);
}

void em_staging_give_back(em_device *device, em_staging *staging, em_part part) {
  staging->buffers[part.buffer].held--;
  pthread_cond_broadcast(&device->changed);
}
