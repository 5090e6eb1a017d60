// What the commands share: options, files, and a program on a device with its kernels and arenas.
#pragma once
#include "exactmap.h"

typedef struct host_options {
  const char *folder, *driver;
  int device;
  bool json;
  // verify
  const char *only;
  bool asked, bytes;
  // run
  const char *tokens;
  uint32_t max_tokens;
  uint64_t seed;
  float sampling[8];  // as in the row `options` of the op sample
} host_options;

// A file in memory.
typedef struct host_file {
  uint8_t *bytes;
  size_t count;
} host_file;

bool host_read_file(const char *path, host_file *file, em_error *error);
// <a>/<b> in a buffer that is valid until the next call.
const char *host_path(const char *a, const char *b);

// A program, loaded. Arenas come in the program's order and are zeroed.
typedef struct host_program {
  em_plan *plan;
  em_program *program;
  em_arena *arenas[64];
  uint32_t arena_count;
} host_program;

// The folder of <folder>/kernels whose images this device runs.
bool host_kernel_folder(const em_device_info *device, const char **name, em_error *error);
// Loads the images the program needs from <folder>/kernels, makes its arenas, and loads it.
bool host_load(em_device *device, const char *folder, const uint8_t *file, size_t bytes, host_program *loaded,
               em_error *error);
void host_unload(host_program *loaded);
// NULL when the program has no such arena.
em_arena *host_arena(const host_program *loaded, const char *kind);

void host_print_error(const em_error *error);
// A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD.
void host_print_json(const char *text, size_t bytes);

int verify_command(const host_options *options);
int run_command(const host_options *options);
int info_command(const host_options *options);
