// Exchanges that only send, as a pipeline's activations and gradients on their way to the next rank. NCCL may keep a
// send until its receive begins, and the peer may first need what this rank does next: in 1F1B a forward's activations
// leave while the peer's gradients come. So a segment copies such messages to memory of their own, and they leave in a
// graph of their own on the stream of their communicator while later segments run. A segment waits for its own messages
// of the last time in that slot, and for those of channels that it uses otherwise: as many buffers between two stages
// as a program has slots, and `timeline` (src/parallel/schedules) finds no deadlock with one.
#include <string.h>

#include "program.h"

uint64_t em_departure_room(uint64_t bytes) { return (bytes + 255) & ~(uint64_t)255; }

// Whether the step only sends, and the segment takes nothing from other ranks but what the step waits for itself: else
// the segment, behind which it leaves, could wait for its answer. `before` is scratch, a flag for each step.
static bool departs(const em_segment *segment, uint32_t index, bool *before) {
  const em_step *steps = segment->steps;
  if (steps[index].kind != EM_EXCHANGE || !steps[index].exchange.communicator) return false;
  memset(before, 0, segment->step_count);
  before[index] = true;
  for (uint32_t i = index + 1; i-- > 0;)
    for (uint32_t a = 0; before[i] && a < steps[i].after_count; a++) before[steps[i].after[a]] = true;
  before[index] = false;
  for (uint32_t i = 0; i < segment->step_count; i++)
    if (steps[i].kind == EM_EXCHANGE && steps[i].exchange.communicator && steps[i].exchange.receive_count > 0 &&
        !before[i])
      return false;
  return true;
}

static bool build(em_program *program, em_departure *departure, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  const em_nodes none = {0};
  em_nodes added = {0};
  CUgraph graph = NULL;
  const CUdeviceptr packed = departure->memory + slot * departure->slot_bytes;
  const bool good =
      EM_CALL(device, error, cuGraphCreate, &graph, 0) &&
      em_exchange_capture(program, &departure->step->exchange, slot, packed, graph, &none, &added, error) &&
      EM_CALL(device, error, cuGraphInstantiateWithFlags, &departure->graphs[slot], graph, 0) &&
      EM_CALL(device, error, cuGraphUpload, departure->graphs[slot], device->stream) &&
      EM_CALL(device, error, cuEventCreate, &departure->left[slot], CU_EVENT_DISABLE_TIMING);
  if (graph) device->driver->cuGraphDestroy(graph);
  em_nodes_free(&added);
  return good;
}

static bool make(em_program *program, em_departure *made, em_step *step, em_error *error) {
  em_device *device = program->device;
  made->step = step;
  made->graphs = em_pool_take(&program->pool, program->slots, sizeof *made->graphs);
  made->left = em_pool_take(&program->pool, program->slots, sizeof *made->left);
  if (!made->graphs || !made->left) return em_fail(error, "out_of_memory", "no host memory for a send");
  for (uint32_t i = 0; i < step->exchange.send_count; i++)
    made->slot_bytes += em_departure_room(step->exchange.sends[i].range.bytes);
  step->departure = made;
  if (!EM_CALL(device, error, cuMemAlloc, &made->memory, made->slot_bytes * program->slots)) return false;
  for (uint32_t slot = 0; slot < program->slots; slot++)
    if (!build(program, made, slot, error)) return false;
  return true;
}

static bool make_all(em_program *program, em_segment *segment, bool *before, em_error *error) {
  for (uint32_t i = 0; i < segment->step_count; i++)
    if (departs(segment, i, before) &&
        !make(program, &segment->departures[segment->departure_count++], &segment->steps[i], error)) {
      em_step_place(error, program, segment, &segment->steps[i]);
      return false;
    }
  return true;
}

bool em_departures_make(em_program *program, em_error *error) {
  for (uint32_t i = 0; i < program->segment_count; i++) {
    em_segment *segment = &program->segments[i];
    uint32_t sends = 0;
    for (uint32_t s = 0; s < segment->step_count; s++)
      sends += segment->steps[s].kind == EM_EXCHANGE && segment->steps[s].exchange.receive_count == 0;
    if (sends == 0) continue;
    segment->departures = em_pool_take(&program->pool, sends, sizeof *segment->departures);
    bool *before = em_pool_take(&program->pool, segment->step_count, sizeof *before);
    if (!segment->departures || !before)
      return em_fail(error, "out_of_memory", "no host memory for %u sends", sends);
    if (!make_all(program, segment, before, error)) return false;
  }
  return true;
}

bool em_departure_pack(em_program *program, const em_departure *departure, uint32_t slot, CUgraph graph,
                       const em_nodes *after, em_nodes *added, em_error *error) {
  const em_exchange *exchange = &departure->step->exchange;
  CUdeviceptr to = departure->memory + slot * departure->slot_bytes;
  for (uint32_t i = 0; i < exchange->send_count; i++) {
    const em_range range = exchange->sends[i].range;
    if (!em_graph_add_copy(program, graph, to, em_program_address(program, range, slot), range.bytes, after, added,
                           error))
      return false;
    to += em_departure_room(range.bytes);
  }
  return true;
}

// Whether the segment's own graph uses the channel.
static bool uses(const em_segment *segment, const em_communicator *communicator) {
  for (uint32_t i = 0; i < segment->step_count; i++) {
    const em_step *step = &segment->steps[i];
    if (step->kind == EM_EXCHANGE && !step->departure && step->exchange.communicator == communicator) return true;
  }
  return false;
}

bool em_departures_before(em_program *program, const em_segment *segment, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  for (uint32_t d = 0; d < segment->departure_count; d++)
    if (!EM_CALL(device, error, cuStreamWaitEvent, device->stream, segment->departures[d].left[slot], 0)) return false;
  if (!device->aside) return true;
  for (em_program *other = device->programs; other; other = other->next)
    for (uint32_t i = 0; i < other->segment_count; i++)
      for (uint32_t d = 0; d < other->segments[i].departure_count; d++) {
        const em_departure *one = &other->segments[i].departures[d];
        for (uint32_t s = 0; uses(segment, one->step->exchange.communicator) && s < other->slots; s++)
          if (!EM_CALL(device, error, cuStreamWaitEvent, device->stream, one->left[s], 0)) return false;
      }
  return true;
}

bool em_departures_launch(em_program *program, const em_segment *segment, uint32_t slot, CUevent ready,
                          em_error *error) {
  em_device *device = program->device;
  if (segment->departure_count == 0) return true;
  bool good = EM_CALL(device, error, cuEventRecord, ready, device->stream);
  for (uint32_t d = 0; good && d < segment->departure_count; d++) {
    const em_departure *one = &segment->departures[d];
    const CUstream stream = one->step->exchange.communicator->stream;
    good = EM_CALL(device, error, cuStreamWaitEvent, stream, ready, 0) &&
           EM_CALL(device, error, cuGraphLaunch, one->graphs[slot], stream) &&
           EM_CALL(device, error, cuEventRecord, one->left[slot], stream);
  }
  return good;
}

bool em_departures_join(em_device *device, CUstream stream, em_error *error) {
  if (!device->aside) return true;
  for (em_program *program = device->programs; program; program = program->next)
    for (uint32_t i = 0; i < program->segment_count; i++)
      for (uint32_t d = 0; d < program->segments[i].departure_count; d++)
        for (uint32_t slot = 0; slot < program->slots; slot++) {
          const CUevent left = program->segments[i].departures[d].left[slot];
          if (left && !EM_CALL(device, error, cuStreamWaitEvent, stream, left, 0)) return false;
        }
  return true;
}

void em_departures_free(em_program *program) {
  const em_driver *driver = program->device->driver;
  for (uint32_t i = 0; program->segments && i < program->segment_count; i++)
    for (uint32_t d = 0; d < program->segments[i].departure_count; d++) {
      em_departure *one = &program->segments[i].departures[d];
      const CUstream stream = one->step->exchange.communicator->stream;
      if (stream) driver->cuStreamSynchronize(stream);
      for (uint32_t slot = 0; one->graphs && one->left && slot < program->slots; slot++) {
        if (one->graphs[slot]) driver->cuGraphExecDestroy(one->graphs[slot]);
        if (one->left[slot]) driver->cuEventDestroy(one->left[slot]);
        one->graphs[slot] = NULL;
        one->left[slot] = NULL;
      }
      if (one->memory) driver->cuMemFree(one->memory);
      one->memory = 0;
    }
}
