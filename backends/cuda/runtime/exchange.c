// Exchanges: messages between ranks as NCCL's sends and receives, and the copies within the rank.
#include <stdlib.h>
#include <string.h>

#include "program.h"

// The k-th send to oneself goes where the k-th receive from oneself is.
static bool find_copies(em_program *program, em_exchange *exchange, uint32_t self, em_error *error) {
  uint32_t sends = 0, receives = 0;
  for (uint32_t i = 0; i < exchange->send_count; i++) sends += exchange->sends[i].peer == self;
  for (uint32_t i = 0; i < exchange->receive_count; i++) receives += exchange->receives[i].peer == self;
  if (sends != receives)
    return em_fail(error, "invalid_program", "member %u sends itself %u ranges and takes %u", self, sends, receives);
  exchange->copies = em_pool_take(&program->pool, sends, sizeof *exchange->copies);
  if (!exchange->copies) return em_fail(error, "out_of_memory", "no host memory for %u copies", sends);
  for (uint32_t s = 0, r = 0; exchange->copy_count < sends; s++, r++) {
    while (exchange->sends[s].peer != self) s++;
    while (exchange->receives[r].peer != self) r++;
    const em_copy copy = {exchange->sends[s].range, exchange->receives[r].range};
    if (copy.from.bytes != copy.to.bytes)
      return em_fail(error, "invalid_program", "member %u sends itself %llu bytes and takes %llu", self,
                     (unsigned long long)copy.from.bytes, (unsigned long long)copy.to.bytes);
    exchange->copies[exchange->copy_count++] = copy;
  }
  return true;
}

static bool find_communicator(em_program *program, em_exchange *exchange, em_error *error) {
  const em_group *group = &program->groups[exchange->group];
  for (size_t i = 0; i < program->communicator_count; i++) {
    em_communicator *one = program->communicators[i];
    if (strcmp(one->group, group->name) != 0 || one->channel != exchange->channel) continue;
    if (one->size != group->size || one->member != (uint64_t)group->self)
      return em_fail(error, "invalid_argument",
                     "the communicator of group '%s' is for member %u of %u, the program for member %lld of %u",
                     group->name, one->member, one->size, (long long)group->self, group->size);
    exchange->communicator = one;
    return true;
  }
  return em_fail(error, "invalid_argument", "no communicator of group '%s' for channel %u was given", group->name,
                 exchange->channel);
}

static bool prepare_one(em_program *program, const em_segment *segment, em_exchange *exchange, const em_rank *rank,
                        em_error *error) {
  const em_group *group = &program->groups[exchange->group];
  if (!rank)
    return em_fail(error, "unsupported",
                   "it exchanges messages with other ranks; load the program as one rank of several");
  if (rank->staged && segment->step_count > 1)
    return em_fail(error, "unsupported",
                   "an exchange among other steps needs communicators; without them the host runs it between segments "
                   "(loadForRank)");
  if (group->self < 0)
    return em_fail(error, "invalid_argument", "which member of group '%s' this rank is was not given", group->name);
  if (!find_copies(program, exchange, (uint32_t)group->self, error)) return false;
  const bool leaves = exchange->send_count + exchange->receive_count > 2 * exchange->copy_count;
  return rank->staged || !leaves || find_communicator(program, exchange, error);
}

static bool take_rank(em_program *program, const em_rank *rank, em_error *error) {
  for (size_t i = 0; i < rank->member_count; i++)
    for (uint32_t g = 0; g < program->group_count; g++) {
      em_group *group = &program->groups[g];
      if (strcmp(group->name, rank->members[i].group) != 0) continue;
      if (rank->members[i].number >= group->size)
        return em_fail(error, "invalid_argument", "no member %u of group '%s', which has %u", rank->members[i].number,
                       group->name, group->size);
      group->self = rank->members[i].number;
    }
  program->communicators = em_pool_take(&program->pool, rank->communicator_count, sizeof(em_communicator *));
  if (!program->communicators) return em_fail(error, "out_of_memory", "no host memory for communicators");
  for (size_t i = 0; i < rank->communicator_count; i++) {
    em_communicator *one = rank->communicators[i];
    if (one->device != program->device)
      return em_fail(error, "invalid_argument", "the communicator of group '%s' is on another device", one->group);
    em_communicator_retain(one);
    program->communicators[program->communicator_count++] = one;
  }
  return true;
}

bool em_exchange_prepare(em_program *program, const em_rank *rank, em_error *error) {
  if (rank && !take_rank(program, rank, error)) return false;
  for (uint32_t i = 0; i < program->segment_count; i++) {
    const em_segment *segment = &program->segments[i];
    for (uint32_t s = 0; s < segment->step_count; s++) {
      em_step *step = &segment->steps[s];
      if (step->kind != EM_EXCHANGE || prepare_one(program, segment, &step->exchange, rank, error)) continue;
      em_step_place(error, program, segment, step);
      return false;
    }
  }
  return true;
}

static bool issue(em_program *program, const em_exchange *exchange, uint32_t slot, CUdeviceptr packed,
                  CUstream stream, em_error *error) {
  const int64_t self = program->groups[exchange->group].self;
  const size_t most = (size_t)exchange->send_count + exchange->receive_count;
  em_nccl_message *messages = calloc(most, sizeof *messages);
  if (!messages) return em_fail(error, "out_of_memory", "no host memory for %zu messages", most);
  size_t count = 0;
  for (size_t i = 0; i < most; i++) {
    const bool is_send = i < exchange->send_count;
    const em_message *one = is_send ? &exchange->sends[i] : &exchange->receives[i - exchange->send_count];
    if (one->peer == self) continue;
    const CUdeviceptr address = packed ? packed : em_program_address(program, one->range, slot);
    if (packed) packed += em_departure_room(one->range.bytes);
    messages[count++] = (em_nccl_message){is_send, one->peer, address, one->range.bytes};
  }
  const bool good = em_communicator_issue(exchange->communicator, messages, count, stream, error);
  free(messages);
  return good;
}

bool em_exchange_launch(em_program *program, const em_exchange *exchange, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  for (uint32_t i = 0; i < exchange->copy_count; i++) {
    const em_copy *copy = &exchange->copies[i];
    if (!EM_CALL(device, error, cuMemcpyDtoDAsync, em_program_address(program, copy->to, slot),
                 em_program_address(program, copy->from, slot), copy->from.bytes, device->stream))
      return false;
  }
  return !exchange->communicator || issue(program, exchange, slot, 0, device->stream, error);
}

bool em_exchange_capture(em_program *program, const em_exchange *exchange, uint32_t slot, CUdeviceptr packed,
                         CUgraph graph, const em_nodes *after, em_nodes *added, em_error *error) {
  em_device *device = program->device;
  for (uint32_t i = 0; i < exchange->copy_count; i++)
    if (!em_graph_add_copy(program, graph, em_program_address(program, exchange->copies[i].to, slot),
                           em_program_address(program, exchange->copies[i].from, slot),
                           exchange->copies[i].from.bytes, after, added, error))
      return false;
  if (!exchange->communicator) return true;
  // Other threads and NCCL's own may allocate meanwhile.
  if (!EM_CALL(device, error, cuStreamBeginCaptureToGraph, device->aside, graph, after->items, NULL, after->count,
               CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
    return false;
  bool good = issue(program, exchange, slot, packed, device->aside, error);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUgraphNode *last = NULL;
  const CUgraphEdgeData *edges = NULL;
  size_t count = 0;
  good = good && EM_CALL(device, error, cuStreamGetCaptureInfo, device->aside, &status, NULL, NULL, &last, &edges,
                         &count);
  for (size_t i = 0; good && i < count; i++) good = em_nodes_add(added, last[i], error);
  // Also after a failure: the stream must leave the capture.
  CUgraph captured = NULL;
  em_error ignored;
  return EM_CALL(device, good ? error : &ignored, cuStreamEndCapture, device->aside, &captured) && good;
}
