// exactmap-cuda verify: runs stored vectors and compares every element with its budget.
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "case_file.h"
#include "host.h"
#include "internal.h"
#include "verdict.h"

enum { TIMED_RUNS = 5 };

typedef struct verification {
  const host_options *options;
  em_device *device;  // NULL after it was lost and could not be opened anew
  unsigned passed, failed;
} verification;

static bool prepare(const host_program *loaded, const case_file *stored, em_error *error) {
  em_arena *activations = host_arena(loaded, "activations");
  // All ones: NaN as floats, so that what is read before it is written shows.
  if (activations && !em_arena_fill(activations, 0xff, error)) return false;
  for (uint32_t i = 0; i < stored->initial_count; i++) {
    const case_initial *initial = &stored->initial[i];
    em_arena *arena = host_arena(loaded, initial->arena);
    if (!arena) return em_fail(error, "invalid_format", "the program has no arena '%s'", initial->arena);
    if (!em_arena_write(arena, initial->offset, initial->data, initial->bytes, error)) return false;
  }
  for (uint32_t i = 0; i < stored->fill_count; i++) {
    em_arena *arena = host_arena(loaded, stored->fills[i].arena);
    if (!arena) return em_fail(error, "invalid_format", "the program has no arena '%s'", stored->fills[i].arena);
    if (!case_fill_write(&stored->fills[i], arena, error)) return false;
  }
  return true;
}

static bool compare(const verification *all, const host_program *loaded, const case_file *stored, uint32_t segment,
                    const em_ticket *ticket, verdict *result, em_error *error) {
  size_t count;
  const uint8_t *bytes = em_ticket_outputs(ticket, &count);
  for (uint32_t i = 0; i < stored->output_count; i++) {
    const case_output *output = &stored->outputs[i];
    const char *name;
    uint64_t offset = 0, size = 0;
    for (uint32_t p = 0; (name = em_plan_output(loaded->plan, segment, p, &offset, &size)); p++)
      if (strcmp(name, output->name) == 0) break;
    const uint64_t needed = output->element_bytes ? output->elements * output->element_bytes : output->bytes;
    if (!name || size < needed)
      return em_fail(error, "invalid_format", "the program has no output '%s' of %llu bytes", output->name,
                     (unsigned long long)needed);
    const case_difference difference = case_compare(output, bytes + offset);
    if (difference.worst > result->worst) result->worst = difference.worst;
    if (difference.wrong && !result->output) {
      result->difference = difference;
      result->output = output->name;
      if (all->options->bytes && (result->got = malloc((size_t)needed)))
        memcpy(result->got, bytes + offset, result->got_bytes = needed);
    }
  }
  return true;
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

// Runs one segment and compares its outputs with the case's, then times it: ops that change a tensor in place would
// otherwise change what is compared. An emulated device has no speed to measure: there the one run's time is told.
static bool run_segment(const verification *all, const host_program *loaded, const case_file *stored, uint32_t segment,
                        verdict *result, float *ms, em_error *error) {
  em_ticket *ticket = NULL;
  const double begin = now_ms();
  bool good = em_program_submit(loaded->program, segment, 0, stored->inputs, &ticket, error) &&
              em_ticket_wait(ticket, error);
  *ms = (float)(now_ms() - begin);
  good = good && compare(all, loaded, stored, segment, ticket, result, error) &&
         (em_device_describe(all->device)->emulated || em_program_time(loaded->program, segment, 0, TIMED_RUNS, ms, error));
  if (ticket) em_ticket_release(ticket);
  return good;
}

// A whole program, such as a training step: all of its segments, in order.
static bool run_segments(const verification *all, const host_program *loaded, const case_file *stored, verdict *result,
                         em_error *error) {
  const char *name;
  for (uint32_t i = 0; (name = em_plan_segment_name(loaded->plan, i)); i++) {
    if (i == MOST_TIMED) return em_fail(error, "unsupported", "a program is timed with up to %d segments", MOST_TIMED);
    if (!run_segment(all, loaded, stored, i, result, &result->segments[i].ms, error)) return false;
    snprintf(result->segments[i].name, sizeof result->segments[i].name, "%s", name);
    result->ms += result->segments[i].ms;
    result->segment_count++;
  }
  return result->segment_count > 0 || em_fail(error, "invalid_format", "the program has no segments");
}

static bool run_case(const verification *all, const case_file *stored, verdict *result, em_error *error) {
  host_program loaded;
  const size_t bytes = (size_t)stored->program_bytes;
  uint64_t before, after, total;
  if (!em_device_memory(all->device, &before, &total, error) ||
      !host_load(all->device, all->options->folder, stored->program, bytes, &loaded, error))
    return false;
  const int segment = em_plan_segment(loaded.plan, "main");
  bool good = segment >= 0 || stored->output_count == 0 ||
              em_fail(error, "invalid_format", "the program has no segment 'main'");
  good = good && prepare(&loaded, stored, error) && em_device_memory(all->device, &after, &total, error) &&
         (segment >= 0 ? run_segment(all, &loaded, stored, (uint32_t)segment, result, &result->ms, error)
                       : run_segments(all, &loaded, stored, result, error));
  if (good) {
    result->device_bytes = (int64_t)before - (int64_t)after;
    for (uint32_t i = 0; i < loaded.arena_count; i++) result->arena_bytes += em_arena_bytes(loaded.arenas[i]);
  }
  host_unload(&loaded);
  return good;
}

static bool reopen(verification *all, em_error *error) {
  em_device_close(all->device);
  em_device_release(all->device);
  all->device = NULL;
  return em_device_open(all->options->driver, all->options->device, &all->device, error);
}

// After a fault: the case once more on a fresh device, step by step, for the launch that fails; then a fresh device
// for those that follow. Keeps what is known where the fault does not come again.
static bool find_launch(verification *all, const case_file *stored, em_error *error) {
  em_error found = {0}, failed = {0};
  host_program loaded;
  if (!reopen(all, &failed)) return false;
  if (!host_load(all->device, all->options->folder, stored->program, (size_t)stored->program_bytes, &loaded, &failed))
    return true;
  const int segment = em_plan_segment(loaded.plan, "main");
  if (prepare(&loaded, stored, &failed) &&
      !em_program_run_eager(loaded.program, (uint32_t)segment, 0, stored->inputs, &found) && found.launch[0])
    *error = found;
  host_unload(&loaded);
  return reopen(all, &failed);
}

// False where there is no device to go on with.
static bool verify_file(verification *all, const char *id, const char *path, em_error *error) {
  host_file file = {0};
  case_file stored = {0};
  verdict result = {0};
  const bool good = host_read_file(path, &file, error) && case_file_read(&stored, file.bytes, file.count, error) &&
                    run_case(all, &stored, &result, error);
  const bool lost = !good && strcmp(error->code, "device_lost") == 0;
  // Told at once: finding the launch may hang.
  if (lost) host_print_error(error);
  const bool go_on = !lost || find_launch(all, &stored, error);
  verdict_report(all->options, id, &stored, &result, good ? NULL : error);
  if (good && !result.output)
    all->passed++;
  else
    all->failed++;
  verdict_free(&result);
  em_pool_free(&stored.pool);
  free(file.bytes);
  return go_on;
}

static int is_entry(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static bool verify_op(verification *all, const char *op, em_error *error) {
  const host_options *options = all->options;
  char folder[4096];
  snprintf(folder, sizeof folder, "%s/cases/%s", options->folder, op);
  struct dirent **files;
  const int count = scandir(folder, &files, is_entry, alphasort);
  bool go_on = true;
  for (int i = 0; i < count; i++) {
    const char *name = files[i]->d_name;
    const size_t length = strlen(name), ending = strlen(".case");
    if (go_on && length > ending && strcmp(name + length - ending, ".case") == 0) {
      char id[1024];
      snprintf(id, sizeof id, "%s/%.*s", op, (int)(length - ending), name);
      if (!options->only || strncmp(id, options->only, strlen(options->only)) == 0)
        go_on = verify_file(all, id, host_path(folder, name), error);
    }
    free(files[i]);
  }
  if (count >= 0) free(files);
  return go_on;
}

static bool verify_all(verification *all, em_error *error) {
  const host_options *options = all->options;
  const char *folder = host_path(options->folder, "cases");
  struct dirent **ops;
  const int count = scandir(folder, &ops, is_entry, alphasort);
  bool go_on = count >= 0 || em_fail(error, "not_found", "can't list %s: %s", folder, strerror(errno));
  for (int i = 0; i < count; i++) {
    if (go_on) go_on = verify_op(all, ops[i]->d_name, error);
    free(ops[i]);
  }
  if (count >= 0) free(ops);
  if (go_on && all->passed + all->failed == 0)
    go_on = em_fail(error, "not_found", "no cases%s%s in %s/cases", options->only ? " that start with " : "",
                    options->only ? options->only : "", options->folder);
  return go_on;
}

// Cases as they are asked for: whoever asks sees at which one this process hangs or ends.
static bool verify_asked(verification *all, em_error *error) {
  char id[1024];
  bool go_on = true;
  while (go_on && fgets(id, sizeof id, stdin)) {
    id[strcspn(id, "\n")] = 0;
    char path[2048];
    snprintf(path, sizeof path, "%s/cases/%s.case", all->options->folder, id);
    go_on = verify_file(all, id, path, error);
  }
  return go_on;
}

int verify_command(const host_options *options) {
  em_error error = {0};
  verification all = {.options = options};
  if (!em_device_open(options->driver, options->device, &all.device, &error)) {
    host_print_error(&error);
    return 1;
  }
  const em_device_info info = *em_device_describe(all.device);
  const bool go_on = options->asked ? verify_asked(&all, &error) : verify_all(&all, &error);
  fprintf(options->json ? stderr : stdout, "%u passed, %u failed on %s\n", all.passed, all.failed, info.name);
  if (!go_on) host_print_error(&error);
  if (all.device) {
    em_device_close(all.device);
    em_device_release(all.device);
  }
  return go_on && all.failed == 0 ? 0 : 1;
}
