// What the files of the runtime share; see exactmap.h for the rules.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "cuda_api.h"
#include "exactmap.h"
#include "nccl_api.h"

// --- driver.c

typedef struct em_driver {
  struct em_driver *next;
  char *path;
  bool emulated;
  const char *(*explain)(void);  // what a driver knows of the last fault or refusal; NULL where it can't say
#define EM_MEMBER(name, version, arguments) CUresult(*name) arguments;
  CUDA_API(EM_MEMBER)
#undef EM_MEMBER
} em_driver;

bool em_driver_open(const char *path, const em_driver **driver, em_error *error);

// A device's primary context, shared by all that have the device open. Once lost it stays so until it is reset.
typedef struct em_context {
  struct em_context *next;
  const em_driver *driver;
  CUdevice ordinal;
  CUcontext handle;
  unsigned users;
  atomic_bool lost;
  em_error cause;
} em_context;

bool em_context_acquire(const em_driver *driver, CUdevice ordinal, em_context **context, em_error *error);
void em_context_give_back(em_context *context);
// The first cause wins; *error becomes it.
void em_context_lose(em_context *context, em_error *error);
// Replaces the cause of a loss by one that says more.
void em_context_refine(em_context *context, const em_error *error);

// --- error.c

// Fills *error and returns false.
bool em_fail(em_error *error, const char *code, const char *format, ...) EM_PRINTF(3, 4);
void em_error_clear(em_error *error);
void em_error_place(em_error *error, const char *program, const char *segment, const char *launch,
                    const char *kernel);
void em_copy_text(char *to, size_t size, const char *from);
// True for CUDA_SUCCESS; else fills *error.
bool em_check_driver(const em_driver *driver, CUresult result, const char *call, em_error *error);
// Whether a context is unusable after this error.
bool em_is_sticky(CUresult result);

// The same for calls on a device: an error after which the context is unusable marks it as lost.
bool em_check(em_device *device, CUresult result, const char *call, em_error *error);
#define EM_CALL(device, error, function, ...) \
  em_check(device, (device)->driver->function(__VA_ARGS__), #function, error)

// --- nccl.c

typedef struct em_nccl {
  struct em_nccl *next;
  char *path;
  int version;
#define EM_MEMBER(name, result, arguments) result(*name) arguments;
  NCCL_API(EM_MEMBER)
#undef EM_MEMBER
} em_nccl;

bool em_nccl_open(const char *path, const em_nccl **nccl, em_error *error);
// True for ncclSuccess; else fills *error.
bool em_check_nccl(const em_nccl *nccl, ncclComm_t communicator, ncclResult_t result, const char *call,
                   em_error *error);

// --- communicator.c

struct em_communicator {
  atomic_uint references;
  em_communicator *next;  // in the device's list
  em_device *device;
  const em_nccl *nccl;
  char group[64];
  uint32_t channel, member, size;
  double seconds;
  CUstream stream;  // of what departs
  // With the watch's mutex.
  ncclComm_t handle;  // NULL when it has ended
  bool busy;          // a call is under way, whose thread looks for errors itself
};

// Looks for errors of a device's communicators beside whatever else waits for the device.
typedef struct em_watch {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  pthread_t thread;
  bool running, stopping;
  em_communicator *communicators;
} em_watch;

typedef struct em_nccl_message {
  bool is_send;
  uint32_t peer;
  CUdeviceptr address;
  uint64_t bytes;
} em_nccl_message;

// Issues the messages as one group of NCCL calls and waits until NCCL has taken them.
bool em_communicator_issue(em_communicator *communicator, const em_nccl_message *messages, size_t count,
                           CUstream stream, em_error *error);
// Before a device is closed: ends exchanges whose peers do not come.
void em_watch_drain(em_device *device);
// Ends the communicators of a device that is being closed, whose graphs are gone.
void em_watch_end(em_device *device);

// --- staging.c

#define EM_STAGING_BYTES ((size_t)8 << 20)

// Two pinned buffers between host memory and the device, filled in turns. A part of a buffer is held while the host
// copies; a buffer is used again when no part is held and its last transfer is over.
typedef struct em_staging {
  struct {
    uint8_t *memory;
    size_t used;
    unsigned held;
    CUevent transferred;
  } buffers[2];
  unsigned current;
} em_staging;

typedef struct em_part {
  uint8_t *memory;
  unsigned buffer;
} em_part;

bool em_staging_create(em_device *device, em_staging *staging, em_error *error);
void em_staging_destroy(em_device *device, em_staging *staging);
// Holds `bytes` (at most EM_STAGING_BYTES) of the staging memory.
bool em_staging_take(em_device *device, em_staging *staging, size_t bytes, em_part *part, em_error *error);
// Records that transfers of the part have been submitted.
bool em_staging_submitted(em_device *device, em_staging *staging, em_part part, em_error *error);
void em_staging_give_back(em_device *device, em_staging *staging, em_part part);

// --- device.c

#define EM_LOG_ENTRIES 64

struct em_device {
  atomic_uint references;
  const em_driver *driver;
  em_context *context;
  em_device_info info;

  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool closed;
  bool exclusive;    // a large read is going on: no work is submitted
  bool stepping;     // steps run one by one: who runs them knows the place of an error
  unsigned waiting;  // calls that wait for the device without the mutex

  CUstream stream;
  CUstream aside;  // where NCCL's calls become nodes of graphs, and marks wait for messages; with a communicator
  em_watch watch;
  em_staging upload, download;
  struct em_module *modules;
  em_arena *arenas;
  em_program *programs;

  // Who submitted what, so that an error that shows later can name the oldest unfinished submission.
  uint64_t submitted, completed;
  struct {
    char program[128], segment[128];
  } log[EM_LOG_ENTRIES];
};

// Locks the device and makes its context current; refuses (unlocked) when it is closed or lost.
bool em_device_enter(em_device *device, em_error *error);
// The same for a call that submits work: waits for the end of a large read.
bool em_device_enter_submit(em_device *device, em_error *error);
void em_device_leave(em_device *device);
// Between these two the mutex is free; em_device_close waits for the second.
void em_device_begin_wait(em_device *device);
void em_device_end_wait(em_device *device);
uint64_t em_device_log(em_device *device, const char *program, const char *segment);
void em_device_completed(em_device *device, uint64_t submission);

// --- module.c

typedef struct em_module {
  struct em_module *next;  // in the device's list
  char *name;
  CUlibrary library;
  unsigned references;
} em_module;

// Holds the module of a name; NULL when there is none.
em_module *em_module_take(em_device *device, const char *name);
void em_module_give_back(em_device *device, em_module *module);

// --- arena.c

struct em_arena {
  atomic_uint references;
  em_arena *next;
  em_device *device;
  char kind[32];
  uint64_t bytes;
  CUdeviceptr address;  // 0 for an arena without bytes
};

void em_arena_free(em_arena *arena);

// --- program.c

// Gives back what a program holds on the device.
void em_program_free(em_program *program);
em_program *em_program_next(const em_program *program);

// --- departure.c

// Makes a stream wait for all messages that have departed.
bool em_departures_join(em_device *device, CUstream stream, em_error *error);

// --- execute.c

#define EM_IN_FLIGHT 4

// Records when all work submitted so far is done, messages that have departed included.
bool em_device_record(em_device *device, CUevent event, em_error *error);

struct em_ticket {
  em_device *device;
  em_program *program;  // NULL for a mark
  unsigned entry;       // of the program's ring
  CUevent event;
  uint64_t submission;
  const uint8_t *outputs;
  size_t output_bytes;
};
