// Running programs: submissions, and tickets to wait for them.
#include <stdlib.h>
#include <string.h>

#include "program.h"

// A free entry of the ring, the oldest first. Waits for its work, and for its ticket's release.
static bool take_entry(em_program *program, unsigned *taken, em_error *error) {
  em_device *device = program->device;
  const unsigned index = program->next_entry++ % EM_IN_FLIGHT;
  em_entry *entry = &program->entries[index];
  while (entry->held) {
    device->waiting++;
    pthread_cond_wait(&device->changed, &device->mutex);
    device->waiting--;
    if (device->closed) {
      pthread_cond_broadcast(&device->changed);
      return em_fail(error, "invalid_argument", "the device is closed; open it again");
    }
  }
  if (!EM_CALL(device, error, cuEventSynchronize, entry->done)) return false;
  em_device_completed(device, entry->submission);
  *taken = index;
  return true;
}

// Runs the steps one by one and waits for each; the first that fails is named.
static bool run_eagerly(em_program *program, uint32_t index, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  const em_segment *segment = &program->segments[index];
  device->stepping = true;
  bool good = true;
  for (uint32_t i = 0; good && i < segment->step_count; i++) {
    const em_step *step = &segment->steps[i];
    good = em_step_launch(program, segment, i, slot, error) &&
           EM_CALL(device, error, cuStreamSynchronize, device->stream);
    if (good) continue;
    em_step_place(error, program, segment, step);
    em_context_refine(device->context, error);
  }
  device->stepping = false;
  return good;
}

static bool check_inputs(const em_program *program, em_inputs inputs, em_error *error) {
  if (inputs.count == 0) return true;
  const uint64_t room = program->step_input < 0 ? 0 : program->plans[program->step_input].bytes;
  if (inputs.offset <= room && inputs.count <= room - inputs.offset) return true;
  em_fail(error, "invalid_argument", "%zu bytes of inputs at %llu leave the arena step_input of %llu bytes",
          inputs.count, (unsigned long long)inputs.offset, (unsigned long long)room);
  em_error_place(error, program->name, NULL, NULL, NULL);
  return false;
}

// Copies the inputs to an entry and from there to the device.
static bool send_inputs(em_program *program, em_entry *entry, em_inputs inputs, em_error *error) {
  if (inputs.count == 0) return true;
  em_device *device = program->device;
  memcpy(entry->inputs, inputs.bytes, inputs.count);
  return EM_CALL(device, error, cuMemcpyHtoDAsync, program->arenas[program->step_input]->address + inputs.offset,
                 entry->inputs, inputs.count, device->stream);
}

static bool fetch_outputs(em_program *program, const em_segment *segment, uint32_t slot, uint8_t *to,
                          em_error *error) {
  em_device *device = program->device;
  for (uint32_t i = 0; i < segment->output_count; i++) {
    const em_range range = segment->outputs[i].range;
    if (range.bytes > 0 && !EM_CALL(device, error, cuMemcpyDtoHAsync, to,
                                    em_program_address(program, range, slot), range.bytes, device->stream))
      return false;
    to += (range.bytes + 7) & ~(uint64_t)7;
  }
  return true;
}

static em_ticket *make_ticket(em_device *device, em_program *program, em_error *error) {
  em_ticket *ticket = calloc(1, sizeof *ticket);
  if (!ticket) {
    em_fail(error, "out_of_memory", "no host memory for a ticket");
    return NULL;
  }
  ticket->device = device;
  ticket->program = program;
  return ticket;
}

// What runs between inputs and outputs of a submission: a segment in a slot, or a schedule.
typedef struct work {
  const em_schedule_entry *entries;
  size_t count;
  CUgraphExec graph;  // NULL: nothing to run
  bool is_schedule;
} work;

static bool run_work(em_program *program, work work, bool eager, CUevent ready, em_error *error) {
  em_device *device = program->device;
  const em_segment *segment = &program->segments[work.entries[0].segment];
  const uint32_t slot = work.entries[0].slot;
  if (!eager && work.is_schedule)
    return em_departures_join(device, device->stream, error) &&
           EM_CALL(device, error, cuGraphLaunch, work.graph, device->stream);
  if (!eager)
    return em_departures_before(program, segment, slot, error) &&
           (!work.graph || EM_CALL(device, error, cuGraphLaunch, work.graph, device->stream)) &&
           em_departures_launch(program, segment, slot, ready, error);
  if (!em_departures_join(device, device->stream, error)) return false;
  for (size_t i = 0; i < work.count; i++)
    if (!run_eagerly(program, work.entries[i].segment, work.entries[i].slot, error)) return false;
  return true;
}

// With the mutex.
static bool submit(em_program *program, work work, em_inputs inputs, bool eager, em_ticket *ticket,
                   em_error *error) {
  em_device *device = program->device;
  const em_segment *segment = work.count > 0 ? &program->segments[work.entries[0].segment] : NULL;
  unsigned index = 0;
  if (!take_entry(program, &index, error)) return false;
  em_entry *entry = &program->entries[index];
  entry->submission = em_device_log(device, program->name, segment ? segment->name : "");
  bool good = send_inputs(program, entry, inputs, error) && run_work(program, work, eager, entry->ready, error);
  if (good && ticket && segment) good = fetch_outputs(program, segment, work.entries[0].slot, entry->outputs, error);
  // Also after a failure: what was submitted may still read the entry.
  em_error ignored;
  const bool recorded = EM_CALL(device, good ? error : &ignored, cuEventRecord, entry->done, device->stream);
  if (!good || !recorded) {
    if (!error->segment[0]) em_error_place(error, program->name, segment ? segment->name : NULL, NULL, NULL);
    return false;
  }
  if (ticket) {
    entry->held = true;
    ticket->entry = index;
    ticket->event = entry->done;
    ticket->submission = entry->submission;
    ticket->outputs = entry->outputs;
    ticket->output_bytes = segment ? segment->output_bytes : 0;
    atomic_fetch_add(&program->references, 1);
    em_device_retain(device);
  }
  return true;
}

static bool submit_segment(em_program *program, uint32_t segment, uint32_t slot, em_inputs inputs, bool eager,
                           em_ticket **ticket, em_error *error) {
  em_device *device = program->device;
  if (!em_program_check(program, segment, slot, error) || !check_inputs(program, inputs, error)) return false;
  em_ticket *made = ticket ? make_ticket(device, program, error) : NULL;
  if (ticket && !made) return false;
  bool good = em_device_enter_submit(device, error);
  if (good) {
    const em_schedule_entry entry = {segment, slot};
    const work work = {&entry, 1, program->segments[segment].graphs[slot], false};
    good = submit(program, work, inputs, eager, made, error);
    em_device_leave(device);
  }
  if (good && ticket)
    *ticket = made;
  else if (!good)
    free(made);
  return good;
}

bool em_program_submit(em_program *program, uint32_t segment, uint32_t slot, em_inputs inputs, em_ticket **ticket,
                       em_error *error) {
  return submit_segment(program, segment, slot, inputs, program->eager, ticket, error);
}

bool em_program_run_eager(em_program *program, uint32_t segment, uint32_t slot, em_inputs inputs, em_error *error) {
  return submit_segment(program, segment, slot, inputs, true, NULL, error);
}

bool em_program_run_steps(em_program *program, uint32_t segment, uint32_t first, uint32_t count, uint32_t times,
                          em_error *error) {
  em_device *device = program->device;
  if (!em_program_check(program, segment, 0, error)) return false;
  const em_segment *chosen = &program->segments[segment];
  if (first > chosen->step_count || count > chosen->step_count - first) {
    em_fail(error, "invalid_argument", "no steps %u to %llu: the segment has %u", first,
            (unsigned long long)first + count, chosen->step_count);
    em_error_place(error, program->name, chosen->name, NULL, NULL);
    return false;
  }
  if (!em_device_enter_submit(device, error)) return false;
  em_device_log(device, program->name, chosen->name);
  bool good = em_departures_join(device, device->stream, error);
  for (uint32_t t = 0; good && t < times; t++)
    for (uint32_t i = first; good && i < first + count; i++) good = em_step_launch(program, chosen, i, 0, error);
  em_device_leave(device);
  return good;
}

// Milliseconds of the fastest of some runs. With the mutex.
static bool time_work(em_program *program, work work, uint32_t repeats, float *best, em_error *error) {
  em_device *device = program->device;
  CUevent start = NULL, end = NULL;
  float least = 0;
  bool good = EM_CALL(device, error, cuEventCreate, &start, 0) && EM_CALL(device, error, cuEventCreate, &end, 0);
  for (uint32_t i = 0; good && i < repeats; i++) {
    float ms = 0;
    em_device_log(device, program->name, program->segments[work.entries[0].segment].name);
    good = EM_CALL(device, error, cuEventRecord, start, device->stream) &&
           run_work(program, work, program->eager, program->entries[0].ready, error) &&
           EM_CALL(device, error, cuEventRecord, end, device->stream) &&
           EM_CALL(device, error, cuEventSynchronize, end) &&
           EM_CALL(device, error, cuEventElapsedTime, &ms, start, end);
    if (good) em_device_completed(device, device->submitted);
    if (i == 0 || ms < least) least = ms;
  }
  if (start) device->driver->cuEventDestroy(start);
  if (end) device->driver->cuEventDestroy(end);
  *best = least;
  return good;
}

// A run shorter than this is timed as one of several in a graph: by itself it would be the launch of a graph that is timed.
static const float LONG_MS = 1;
enum { MOST_RUNS = 64 };

bool em_program_time(em_program *program, uint32_t segment, uint32_t slot, uint32_t repeats, float *best,
                     em_error *error) {
  em_device *device = program->device;
  if (!em_program_check(program, segment, slot, error) || !em_device_enter_submit(device, error)) return false;
  em_schedule_entry entries[MOST_RUNS];
  for (int i = 0; i < MOST_RUNS; i++) entries[i] = (em_schedule_entry){segment, slot};
  const work one = {entries, 1, program->segments[segment].graphs[slot], false};
  bool good = time_work(program, one, 1, best, error);
  const float fit = good && *best > LONG_MS / MOST_RUNS ? LONG_MS / *best : MOST_RUNS;
  const size_t runs = program->eager ? 1 : (size_t)fit;
  if (good && runs <= 1) {
    good = time_work(program, one, repeats, best, error);
  } else if (good) {
    work several = {entries, runs, NULL, true};
    good = em_graph_build(program, entries, runs, true, &several.graph, error) &&
           time_work(program, several, repeats, best, error);
    *best /= (float)runs;
    if (several.graph) device->driver->cuGraphExecDestroy(several.graph);
  }
  em_device_leave(device);
  return good;
}

bool em_program_schedule(em_program *program, const em_schedule_entry *entries, size_t count, uint32_t *number,
                         em_error *error) {
  em_device *device = program->device;
  if (count == 0) return em_fail(error, "invalid_argument", "a schedule needs at least one segment");
  for (size_t i = 0; i < count; i++)
    if (!em_program_check(program, entries[i].segment, entries[i].slot, error)) return false;
  em_schedule *schedule = calloc(1, sizeof *schedule + count * sizeof *entries);
  if (!schedule) return em_fail(error, "out_of_memory", "no host memory for a schedule of %zu segments", count);
  schedule->count = count;
  memcpy(schedule->entries, entries, count * sizeof *entries);
  if (!em_device_enter_submit(device, error)) {
    free(schedule);
    return false;
  }
  const bool good = program->eager || em_graph_build(program, entries, count, true, &schedule->graph, error);
  if (good) {
    *number = schedule->number = program->schedule_count++;
    schedule->next = program->schedules;
    program->schedules = schedule;
  } else {
    free(schedule);
  }
  em_device_leave(device);
  return good;
}

bool em_program_run_schedule(em_program *program, uint32_t number, em_inputs inputs, em_error *error) {
  em_device *device = program->device;
  if (!check_inputs(program, inputs, error) || !em_device_enter_submit(device, error)) return false;
  const em_schedule *schedule = program->schedules;
  while (schedule && schedule->number != number) schedule = schedule->next;
  bool good = false;
  if (schedule) {
    const work work = {schedule->entries, schedule->count, schedule->graph, true};
    good = submit(program, work, inputs, program->eager, NULL, error);
  } else {
    em_fail(error, "not_found", "the program has no schedule %u", number);
    em_error_place(error, program->name, NULL, NULL, NULL);
  }
  em_device_leave(device);
  return good;
}

bool em_device_record(em_device *device, CUevent event, em_error *error) {
  if (!EM_CALL(device, error, cuEventRecord, event, device->stream)) return false;
  return !device->aside || (EM_CALL(device, error, cuStreamWaitEvent, device->aside, event, 0) &&
                            em_departures_join(device, device->aside, error) &&
                            EM_CALL(device, error, cuEventRecord, event, device->aside));
}

bool em_device_mark(em_device *device, em_ticket **ticket, em_error *error) {
  em_ticket *made = make_ticket(device, NULL, error);
  if (!made) return false;
  if (!em_device_enter(device, error)) {
    free(made);
    return false;
  }
  made->submission = device->submitted;
  const bool good = EM_CALL(device, error, cuEventCreate, &made->event, CU_EVENT_DISABLE_TIMING) &&
                    em_device_record(device, made->event, error);
  if (good) {
    em_device_retain(device);
    *ticket = made;
  } else {
    if (made->event) device->driver->cuEventDestroy(made->event);
    free(made);
  }
  em_device_leave(device);
  return good;
}

bool em_ticket_wait(em_ticket *ticket, em_error *error) {
  em_device *device = ticket->device;
  if (!em_device_enter(device, error)) return false;
  em_device_begin_wait(device);
  const CUresult result = device->driver->cuEventSynchronize(ticket->event);
  em_device_end_wait(device);
  const bool good = em_check(device, result, "cuEventSynchronize", error);
  if (good) em_device_completed(device, ticket->submission);
  em_device_leave(device);
  return good;
}

const uint8_t *em_ticket_outputs(const em_ticket *ticket, size_t *bytes) {
  *bytes = ticket->output_bytes;
  return ticket->outputs;
}

void em_ticket_release(em_ticket *ticket) {
  em_device *device = ticket->device;
  pthread_mutex_lock(&device->mutex);
  if (ticket->program) {
    ticket->program->entries[ticket->entry].held = false;
  } else if (!device->closed) {
    device->driver->cuCtxSetCurrent(device->context->handle);
    device->driver->cuEventDestroy(ticket->event);
  }
  pthread_cond_broadcast(&device->changed);
  pthread_mutex_unlock(&device->mutex);
  if (ticket->program) em_program_release(ticket->program);
  free(ticket);
  em_device_release(device);
}
