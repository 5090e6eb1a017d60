#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

bool host_read_file(const char *path, host_file *file, em_error *error) {
  *file = (host_file){0};
  FILE *stream = fopen(path, "rb");
  if (!stream)
    return em_fail(error, errno == ENOENT ? "not_found" : "io", "can't open %s: %s", path, strerror(errno));
  bool good = fseeko(stream, 0, SEEK_END) == 0;
  const off_t end = good ? ftello(stream) : -1;
  good = good && end >= 0 && fseeko(stream, 0, SEEK_SET) == 0;
  if (good) {
    file->count = (size_t)end;
    file->bytes = malloc(file->count + 1);
    good = file->bytes && fread(file->bytes, 1, file->count, stream) == file->count;
  }
  if (!good) {
    em_fail(error, "io", "can't read %s: %s", path, errno ? strerror(errno) : "it changed meanwhile");
    free(file->bytes);
    *file = (host_file){0};
  }
  fclose(stream);
  return good;
}

const char *host_path(const char *a, const char *b) {
  static char path[4096];
  char joined[sizeof path];
  snprintf(joined, sizeof joined, "%s/%s", a, b);
  memcpy(path, joined, sizeof path);
  return path;
}

bool host_kernel_folder(const em_device_info *device, const char **name, em_error *error) {
  if (device->emulated)
    *name = "emulated";
  else if (device->capability == 90)
    *name = "sm_90a";
  else if (device->capability == 103)
    *name = "sm_103a";
  else
    return em_fail(error, "unsupported",
                   "%s has compute capability %d.%d; there are kernels for 9.0 (sm_90a) and 10.3 (sm_103a)",
                   device->name, device->capability / 10, device->capability % 10);
  return true;
}

// Modules are loaded anew for every program: their images are small, and the device keeps what is used.
static bool load_modules(em_device *device, const char *folder, const em_plan *plan, em_error *error) {
  const em_device_info *info = em_device_describe(device);
  const char *kernels = "", *module;
  if (!host_kernel_folder(info, &kernels, error)) return false;
  for (uint32_t i = 0; (module = em_plan_module(plan, i)); i++) {
    char name[512];
    host_file image;
    snprintf(name, sizeof name, "kernels/%s/%s.%s", kernels, module, info->emulated ? "so" : "cubin");
    if (!host_read_file(host_path(folder, name), &image, error)) return false;
    const bool good = em_module_load(device, module, image.bytes, image.count, error);
    free(image.bytes);
    if (!good) return false;
  }
  return true;
}

bool host_load(em_device *device, const char *folder, const uint8_t *file, size_t bytes, host_program *loaded,
               em_error *error) {
  memset(loaded, 0, sizeof *loaded);
  bool good = em_plan_open(file, bytes, &loaded->plan, error) && load_modules(device, folder, loaded->plan, error);
  uint64_t size = 0;
  const char *kind;
  while (good && (kind = em_plan_arena(loaded->plan, loaded->arena_count, &size))) {
    good = em_arena_create(device, kind, size, true, &loaded->arenas[loaded->arena_count], error);
    if (good) loaded->arena_count++;
  }
  good = good && em_program_load(device, file, bytes, loaded->arenas, loaded->arena_count, NULL, &loaded->program,
                                 error);
  if (!good) host_unload(loaded);
  return good;
}

void host_unload(host_program *loaded) {
  if (loaded->program) em_program_release(loaded->program);
  for (uint32_t i = 0; i < loaded->arena_count; i++) em_arena_release(loaded->arenas[i]);
  if (loaded->plan) em_plan_close(loaded->plan);
  memset(loaded, 0, sizeof *loaded);
}

em_arena *host_arena(const host_program *loaded, const char *kind) {
  uint64_t bytes;
  for (uint32_t i = 0; i < loaded->arena_count; i++)
    if (strcmp(em_plan_arena(loaded->plan, i, &bytes), kind) == 0) return loaded->arenas[i];
  return NULL;
}

void host_print_error(const em_error *error) {
  fprintf(stderr, "exactmap-cuda: %s: %s", error->code, error->message);
  const char *names[] = {"program", "segment", "launch", "kernel"};
  const char *values[] = {error->program, error->segment, error->launch, error->kernel};
  bool some = false;
  for (int i = 0; i < 4; i++) {
    if (!values[i][0]) continue;
    fprintf(stderr, "%s%s %s", some ? ", " : " [", names[i], values[i]);
    some = true;
  }
  fprintf(stderr, "%s\n", some ? "]" : "");
}

// Bytes of the UTF-8 character at the start; 0 when there is none.
static size_t character(const uint8_t *text, size_t bytes) {
  const uint8_t first = text[0];
  const size_t length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3
                      : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length == 0 || length > bytes) return 0;
  for (size_t i = 1; i < length; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates, and what is past U+10FFFF.
  if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] >= 0xa0) || (first == 0xf0 && text[1] < 0x90) ||
      (first == 0xf4 && text[1] >= 0x90))
    return 0;
  return length;
}

void host_print_json(const char *text, size_t bytes) {
  const uint8_t *at = (const uint8_t *)text;
  putchar('"');
  for (size_t i = 0; i < bytes;) {
    const size_t length = character(at + i, bytes - i);
    if (length == 0)
      fputs("\\ufffd", stdout);
    else if (at[i] == '"' || at[i] == '\\')
      printf("\\%c", at[i]);
    else if (at[i] < 0x20)
      printf("\\u%04x", at[i]);
    else
      fwrite(at + i, 1, length, stdout);
    i += length ? length : 1;
  }
  putchar('"');
}
