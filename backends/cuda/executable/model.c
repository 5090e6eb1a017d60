// Loading a model: program, kernels, arenas, and weights with their checksums.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "run.h"

enum { CHUNK = 8 << 20 };

static bool load_tensor(const model *opened, const model_tensor *tensor, int file, uint8_t *buffer, em_error *error) {
  em_arena *arena = host_arena(&opened->loaded, tensor->arena);
  if (!arena)
    return em_fail(error, "invalid_format", "tensor '%s' is in arena '%s', which the program lacks", tensor->name,
                   tensor->arena);
  uint64_t hash = MODEL_CHECKSUM_START;
  for (uint64_t done = 0; done < tensor->bytes;) {
    const size_t size = tensor->bytes - done < CHUNK ? (size_t)(tensor->bytes - done) : CHUNK;
    for (size_t got = 0; got < size;) {
      const ssize_t count = pread(file, buffer + got, size - got, (off_t)(tensor->file_offset + done + got));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0)
        return em_fail(error, "io", "can't read %s: %s", opened->parsed.files[tensor->file], strerror(errno));
      if (count == 0)
        return em_fail(error, "invalid_format", "%s ends within tensor '%s'", opened->parsed.files[tensor->file],
                       tensor->name);
      got += (size_t)count;
    }
    hash = model_checksum(hash, buffer, size);
    if (!em_arena_write(arena, tensor->offset + done, buffer, size, error)) return false;
    done += size;
  }
  return hash == tensor->checksum || em_fail(error, "invalid_format", "tensor '%s' in %s is damaged: its checksum "
                                                                      "does not match; export the model again",
                                             tensor->name, opened->parsed.files[tensor->file]);
}

static bool load_weights(const host_options *options, const model *opened, em_error *error) {
  const model_file *parsed = &opened->parsed;
  uint8_t *buffer = malloc(CHUNK);
  if (!buffer) return em_fail(error, "out_of_memory", "no host memory to read weights with");
  bool good = true;
  for (uint32_t f = 0; good && f < parsed->file_count; f++) {
    const int file = open(host_path(options->folder, parsed->files[f]), O_RDONLY | O_CLOEXEC);
    if (file < 0) good = em_fail(error, errno == ENOENT ? "not_found" : "io", "can't open %s: %s", parsed->files[f],
                                 strerror(errno));
    for (uint32_t t = 0; good && t < parsed->tensor_count; t++)
      if (parsed->tensors[t].file == f) good = load_tensor(opened, &parsed->tensors[t], file, buffer, error);
    if (file >= 0) close(file);
  }
  free(buffer);
  return good;
}

bool model_open(const host_options *options, em_device *device, model *opened, em_error *error) {
  memset(opened, 0, sizeof *opened);
  opened->device = device;
  bool good = host_read_file(host_path(options->folder, "model.exm"), &opened->file, error) &&
              model_file_read(&opened->parsed, opened->file.bytes, opened->file.count, error) &&
              host_load(device, options->folder, opened->parsed.program, (size_t)opened->parsed.program_bytes,
                        &opened->loaded, error) &&
              load_weights(options, opened, error);
  if (good) {
    const em_arena *inputs = host_arena(&opened->loaded, "step_input");
    opened->input_bytes = inputs ? em_arena_bytes(inputs) : 0;
    opened->inputs = calloc(1, (size_t)opened->input_bytes + 1);
    good = opened->inputs || em_fail(error, "out_of_memory", "no host memory for the inputs");
  }
  if (!good) model_close(opened);
  return good;
}

void model_close(model *opened) {
  host_unload(&opened->loaded);
  em_pool_free(&opened->parsed.pool);
  free(opened->file.bytes);
  free(opened->inputs);
  memset(opened, 0, sizeof *opened);
}
