// The C runtime of the CUDA backend: executes program files (../program_file.ts) on devices behind the CUDA driver
// library, or behind the emulated one. Two hosts use it: the Node addon and the standalone executable.
//
// - A function that can fail returns false and fills *error; what it would have given is then untouched. No function
//   of this file prints, exits or throws.
// - Objects are counted: a creator owns one reference and gives it back with ..._release; a program holds its arenas,
//   everything holds its device. em_device_close takes the memory of all of them at once; they then only refuse.
// - All work of a device goes to one stream in the order of the calls. Every function may be called from any thread;
//   calls for one device exclude each other except while they wait for the device.
// - After loading nothing is allocated on the device.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EM_PRINTF(string, first) __attribute__((format(printf, string, first)))

// What failed, where. Strings that do not apply are empty.
typedef struct em_error {
  const char *code;  // an ErrorCode of src/errors.ts
  const char *call;  // the driver function that failed, or NULL
  int cuda_error;    // its CUresult, or 0
  char cuda_name[64];
  char message[1024];
  char program[128], segment[128], launch[192], kernel[128];
} em_error;

typedef struct em_device em_device;
typedef struct em_arena em_arena;
typedef struct em_program em_program;
typedef struct em_ticket em_ticket;
typedef struct em_read em_read;
typedef struct em_plan em_plan;
typedef struct em_communicator em_communicator;

typedef struct em_device_info {
  char name[128];
  int capability;  // times ten: 90 for Hopper
  int multiprocessors;
  uint64_t memory;
  bool emulated;
} em_device_info;

// `driver` is the path of a driver library; NULL or "" is libcuda.so.1. A library stays loaded as long as the process
// lives.
bool em_driver_probe(const char *driver, int *version, int *devices, em_error *error);
bool em_device_probe(const char *driver, int index, em_device_info *info, em_error *error);

// Opens a device: its primary context, a stream and the staging memory that transfers go through.
bool em_device_open(const char *driver, int index, em_device **device, em_error *error);
void em_device_retain(em_device *device);
const em_device_info *em_device_describe(const em_device *device);
bool em_device_memory(em_device *device, uint64_t *free_bytes, uint64_t *total_bytes, em_error *error);
// Gives back everything on the device after waiting for it; later calls are refused. After a device was lost, closing
// all that have it open resets its context, and it can be opened anew.
void em_device_close(em_device *device);
void em_device_release(em_device *device);

// A ticket for all work submitted so far.
bool em_device_mark(em_device *device, em_ticket **ticket, em_error *error);

// Registers the image (a cubin; a shared object on the emulated device) that programs loaded from now on take `name`
// from.
bool em_module_load(em_device *device, const char *name, const void *image, size_t bytes, em_error *error);

bool em_arena_create(em_device *device, const char *kind, uint64_t bytes, bool zeroed, em_arena **arena,
                     em_error *error);
void em_arena_retain(em_arena *arena);
void em_arena_release(em_arena *arena);
uint64_t em_arena_bytes(const em_arena *arena);
// Takes the bytes before it returns.
bool em_arena_write(em_arena *arena, uint64_t offset, const void *bytes, uint64_t count, em_error *error);
// Blocks while it reads the file; other calls may come between its pieces.
bool em_arena_write_file(em_arena *arena, uint64_t offset, const char *path, uint64_t file_offset, uint64_t count,
                         em_error *error);
bool em_arena_fill(em_arena *arena, uint8_t byte, em_error *error);
// Reads the bytes as work submitted so far leaves them. em_read_finish blocks, copies them and ends the read whatever
// happens; every read must be finished, since a large one keeps other work from starting.
bool em_read_begin(em_arena *arena, uint64_t offset, uint64_t count, em_read **read, em_error *error);
bool em_read_finish(em_read *read, void *bytes, em_error *error);

// A program file without a device: what a host must know to load and drive it. Strings live as long as the plan; an
// index past the last gives NULL.
bool em_plan_open(const void *file, size_t bytes, em_plan **plan, em_error *error);
void em_plan_close(em_plan *plan);
const char *em_plan_arena(const em_plan *plan, uint32_t index, uint64_t *bytes);
const char *em_plan_module(const em_plan *plan, uint32_t index);
// Index of a segment, or -1.
int em_plan_segment(const em_plan *plan, const char *name);
const char *em_plan_segment_name(const em_plan *plan, uint32_t index);
// Inputs lie at `offset` of the arena step_input; outputs at `offset` of what em_ticket_outputs gives.
const char *em_plan_input(const em_plan *plan, uint32_t segment, uint32_t index, uint64_t *offset, uint64_t *bytes);
const char *em_plan_output(const em_plan *plan, uint32_t segment, uint32_t index, uint64_t *offset, uint64_t *bytes);

// An NCCL library: `path`, or libnccl.so.2 for NULL or "".
bool em_nccl_probe(const char *path, int *version, em_error *error);
enum { EM_NCCL_ID_BYTES = 128 };
// What member 0 of a group makes for each of its channels; the host carries it to the other members.
bool em_nccl_make_id(const char *path, uint8_t id[EM_NCCL_ID_BYTES], em_error *error);

// One channel of a group, seen from one of its members.
typedef struct em_communicator_place {
  const char *group;
  uint32_t channel, member, size;
} em_communicator_place;

// Blocks until all members of the group have made theirs with the same id, at most `seconds`; so long may peers also
// take to join when a program is loaded. Members make communicators in the same order. A device that has any watches
// them: when a peer is lost, it is lost too (`device_lost`, naming group and channel), and what waits for it ends.
bool em_communicator_create(em_device *device, const char *nccl, em_communicator_place place,
                            const uint8_t id[EM_NCCL_ID_BYTES], double seconds, em_communicator **communicator,
                            em_error *error);
void em_communicator_retain(em_communicator *communicator);
void em_communicator_release(em_communicator *communicator);

typedef struct em_member {
  const char *group;
  uint32_t number;
} em_member;

// Which rank of several runs a program with exchanges: its number in each group, and what carries the messages.
typedef struct em_rank {
  const em_member *members;
  size_t member_count;
  // The host carries them: every exchange stands alone in its segment, which makes only the copies within the rank.
  bool staged;
  em_communicator *const *communicators;
  size_t communicator_count;
} em_rank;

// Validates and loads a program file over arenas, which come in the program's order. Everything is allocated here.
// `rank` is NULL for a program without exchanges. With communicators it blocks until the peers load theirs.
bool em_program_load(em_device *device, const void *file, size_t bytes, em_arena *const *arenas, size_t arena_count,
                     const em_rank *rank, em_program **program, em_error *error);
void em_program_release(em_program *program);
// Bytes a segment's outputs have together, each padded to a multiple of 8; 0 for an unknown segment.
uint64_t em_program_output_bytes(const em_program *program, uint32_t segment);

// What the host gives to a step: bytes that go to `offset` of the arena step_input.
typedef struct em_inputs {
  uint64_t offset;
  const void *bytes;
  size_t count;
} em_inputs;

// Runs a segment. With a ticket its outputs are read back. Four submissions of a program may be in flight; another
// waits for the oldest, and for its ticket's release.
bool em_program_submit(em_program *program, uint32_t segment, uint32_t slot, em_inputs inputs, em_ticket **ticket,
                       em_error *error);
// Runs `count` steps from `first` on, `times` times over, one after the other in slot 0.
bool em_program_run_steps(em_program *program, uint32_t segment, uint32_t first, uint32_t count, uint32_t times,
                          em_error *error);
// Runs a segment step by step and waits for each, so that an error names the launch. Steps always run like this where
// EXACTMAP_CUDA_EAGER is 1 in the environment when the program is loaded.
bool em_program_run_eager(em_program *program, uint32_t segment, uint32_t slot, em_inputs inputs, em_error *error);
// Milliseconds of a run on the device, the fastest of `repeats`; short ones are repeated within a graph, one after the other.
bool em_program_time(em_program *program, uint32_t segment, uint32_t slot, uint32_t repeats, float *best,
                     em_error *error);

typedef struct em_schedule_entry {
  uint32_t segment, slot;
} em_schedule_entry;

// Makes one graph of a list of segments that run one after the other; *schedule identifies it. Its segments wait for
// the sends of those before.
bool em_program_schedule(em_program *program, const em_schedule_entry *entries, size_t count, uint32_t *schedule,
                         em_error *error);
bool em_program_run_schedule(em_program *program, uint32_t schedule, em_inputs inputs, em_error *error);

// Blocks until the work is done.
bool em_ticket_wait(em_ticket *ticket, em_error *error);
// After a successful wait: the outputs one after the other, each padded to a multiple of 8; valid until the release.
const uint8_t *em_ticket_outputs(const em_ticket *ticket, size_t *bytes);
void em_ticket_release(em_ticket *ticket);

#ifdef __cplusplus
}
#endif
