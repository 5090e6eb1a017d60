// Loading and unloading programs: everything a step needs is made here.
#include <stdlib.h>
#include <string.h>

#include "program.h"

CUdeviceptr em_program_address(const em_program *program, em_range range, uint32_t slot) {
  return program->arenas[range.arena]->address + program->plans[range.arena].slot_bytes * slot + range.offset;
}

em_program *em_program_next(const em_program *program) { return program->next; }

bool em_program_check(const em_program *program, uint32_t segment, uint32_t slot, em_error *error) {
  bool good = true;
  if (segment >= program->segment_count)
    good = em_fail(error, "not_found", "no segment %u: the program has %u", segment, program->segment_count);
  else if (slot >= program->slots)
    good = em_fail(error, "invalid_argument", "no slot %u: the program has %u", slot, program->slots);
  if (!good) em_error_place(error, program->name, NULL, NULL, NULL);
  return good;
}

static bool bind_arenas(em_program *program, em_arena *const *arenas, size_t count, em_error *error) {
  if (count != program->arena_count)
    return em_fail(error, "invalid_argument", "%zu arenas were given, the program has %u", count,
                   program->arena_count);
  program->arenas = em_pool_take(&program->pool, count, sizeof *program->arenas);
  if (!program->arenas) return em_fail(error, "out_of_memory", "no host memory for %zu arenas", count);
  for (size_t i = 0; i < count; i++) {
    const em_arena_plan *plan = &program->plans[i];
    if (arenas[i]->device != program->device)
      return em_fail(error, "invalid_argument", "arena '%s' is on another device", plan->kind);
    if (strcmp(arenas[i]->kind, plan->kind) != 0 || arenas[i]->bytes != plan->bytes)
      return em_fail(error, "invalid_argument", "arena %zu is '%s' of %llu bytes, the program needs '%s' of %llu", i,
                     arenas[i]->kind, (unsigned long long)arenas[i]->bytes, plan->kind,
                     (unsigned long long)plan->bytes);
  }
  for (size_t i = 0; i < count; i++) {
    atomic_fetch_add(&arenas[i]->references, 1);
    program->arenas[i] = arenas[i];
  }
  return true;
}

// The data's bytes are in the file, which the caller keeps only during the load.
static bool write_data(em_program *program, em_error *error) {
  for (uint32_t i = 0; i < program->data_count; i++) {
    const em_blob *blob = &program->data[i];
    const em_range range = blob->range;
    if (!em_arena_write(program->arenas[range.arena], range.offset, blob->bytes, range.bytes, error))
      return false;
  }
  program->data = NULL;
  return true;
}

static bool find_kernel(em_program *program, em_kernel *kernel, em_error *error) {
  em_device *device = program->device;
  if (EM_CALL(device, error, cuLibraryGetKernel, &kernel->handle, program->modules[kernel->module]->library,
              kernel->entry) &&
      (kernel->shared_bytes == 0 ||
       EM_CALL(device, error, cuKernelSetAttribute, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
               (int)kernel->shared_bytes, kernel->handle, device->context->ordinal)))
    return true;
  if (error->cuda_error == CUDA_ERROR_NOT_FOUND)
    em_fail(error, "not_found", "the image of module '%s' has no kernel '%s'; build it again",
            program->module_names[kernel->module], kernel->entry);
  em_error_place(error, NULL, NULL, NULL, kernel->entry);
  return false;
}

static bool find_kernels(em_program *program, em_error *error) {
  em_device *device = program->device;
  for (uint32_t i = 0; i < program->module_count; i++) {
    program->modules[i] = em_module_take(device, program->module_names[i]);
    if (!program->modules[i])
      return em_fail(error, "not_found", "the device has no image of module '%s'", program->module_names[i]);
  }
  for (uint32_t i = 0; i < program->kernel_count; i++)
    if (!find_kernel(program, &program->kernels[i], error)) return false;
  for (uint32_t i = 0; i < program->walker_count; i++)
    if (!find_kernel(program, &program->walkers[i].kernel, error)) return false;
  return true;
}

static bool make_entries(em_program *program, em_error *error) {
  em_device *device = program->device;
  uint64_t inputs = program->step_input < 0 ? 0 : program->plans[program->step_input].bytes, outputs = 0;
  inputs = (inputs + 255) & ~(uint64_t)255;
  for (uint32_t i = 0; i < program->segment_count; i++)
    if (program->segments[i].output_bytes > outputs) outputs = program->segments[i].output_bytes;
  for (int i = 0; i < EM_IN_FLIGHT; i++) {
    em_entry *entry = &program->entries[i];
    if (inputs + outputs > 0 &&
        !EM_CALL(device, error, cuMemAllocHost, (void **)&entry->inputs, inputs + outputs))
      return false;
    entry->outputs = entry->inputs ? entry->inputs + inputs : NULL;
    if (!EM_CALL(device, error, cuEventCreate, &entry->done, CU_EVENT_DISABLE_TIMING) ||
        !EM_CALL(device, error, cuEventCreate, &entry->ready, CU_EVENT_DISABLE_TIMING))
      return false;
  }
  return true;
}

static bool make_graphs(em_program *program, em_error *error) {
  for (uint32_t i = 0; i < program->segment_count; i++)
    for (uint32_t slot = 0; slot < program->slots; slot++) {
      const em_schedule_entry entry = {i, slot};
      if (program->segments[i].step_count > 0 &&
          !em_graph_build(program, &entry, 1, false, &program->segments[i].graphs[slot], error))
        return false;
    }
  return true;
}

static bool prepare(em_program *program, em_error *error) {
  em_device *device = program->device;
  if (!em_device_enter_submit(device, error)) return false;
  program->next = device->programs;
  device->programs = program;
  const bool good = find_kernels(program, error) && em_maps_make(program, error) && make_entries(program, error) &&
                    (program->eager || (em_departures_make(program, error) && make_graphs(program, error)));
  em_device_leave(device);
  return good;
}

bool em_program_load(em_device *device, const void *file, size_t bytes, em_arena *const *arenas, size_t arena_count,
                     const em_rank *rank, em_program **loaded, em_error *error) {
  em_program *program = calloc(1, sizeof *program);
  if (!program) return em_fail(error, "out_of_memory", "no host memory for a program");
  const char *eager = getenv("EXACTMAP_CUDA_EAGER");
  program->references = 1;
  program->device = device;
  program->eager = eager && strcmp(eager, "1") == 0;
  em_device_retain(device);
  if (em_program_parse(program, file, bytes, error)) {
    if (em_exchange_prepare(program, rank, error) && bind_arenas(program, arenas, arena_count, error) &&
        write_data(program, error) && (program->eager || em_walks_make(program, error)) && prepare(program, error)) {
      *loaded = program;
      return true;
    }
    em_error_place(error, program->name, NULL, NULL, NULL);
  }
  em_program_release(program);
  return false;
}

void em_program_free(em_program *program) {
  em_device *device = program->device;
  const em_driver *driver = device->driver;
  em_departures_free(program);
  for (uint32_t i = 0; i < program->segment_count; i++)
    for (uint32_t slot = 0; program->segments[i].graphs && slot < program->slots; slot++) {
      if (program->segments[i].graphs[slot]) driver->cuGraphExecDestroy(program->segments[i].graphs[slot]);
      program->segments[i].graphs[slot] = NULL;
    }
  for (em_schedule *schedule = program->schedules; schedule; schedule = schedule->next) {
    if (schedule->graph) driver->cuGraphExecDestroy(schedule->graph);
    schedule->graph = NULL;
  }
  for (int i = 0; i < EM_IN_FLIGHT; i++) {
    em_entry *entry = &program->entries[i];
    if (entry->inputs) driver->cuMemFreeHost(entry->inputs);
    if (entry->done) driver->cuEventDestroy(entry->done);
    if (entry->ready) driver->cuEventDestroy(entry->ready);
    *entry = (em_entry){0};
  }
  for (uint32_t i = 0; program->modules && i < program->module_count; i++) {
    if (program->modules[i]) em_module_give_back(device, program->modules[i]);
    program->modules[i] = NULL;
  }
}

void em_program_release(em_program *program) {
  if (atomic_fetch_sub(&program->references, 1) > 1) return;
  em_device *device = program->device;
  pthread_mutex_lock(&device->mutex);
  em_program **link = &device->programs;
  while (*link && *link != program) link = &(*link)->next;
  if (*link) *link = program->next;
  if (!device->closed) {
    device->driver->cuCtxSetCurrent(device->context->handle);
    device->driver->cuStreamSynchronize(device->stream);
    em_program_free(program);
  }
  pthread_mutex_unlock(&device->mutex);
  for (uint32_t i = 0; program->arenas && i < program->arena_count; i++)
    if (program->arenas[i]) em_arena_release(program->arenas[i]);
  em_walks_release(program);
  for (size_t i = 0; i < program->communicator_count; i++) em_communicator_release(program->communicators[i]);
  while (program->schedules) {
    em_schedule *schedule = program->schedules;
    program->schedules = schedule->next;
    free(schedule);
  }
  free(program->maps);
  em_pool_free(&program->pool);
  free(program);
  em_device_release(device);
}

uint64_t em_program_output_bytes(const em_program *program, uint32_t segment) {
  return segment < program->segment_count ? program->segments[segment].output_bytes : 0;
}
