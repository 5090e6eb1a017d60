// Programs as CUDA graphs: one node for each launch and copy, and those that NCCL adds for an exchange.
#include <stdlib.h>

#include "program.h"

bool em_nodes_add(em_nodes *nodes, CUgraphNode node, em_error *error) {
  if (nodes->count == nodes->room) {
    const size_t room = nodes->room ? 2 * nodes->room : 64;
    CUgraphNode *items = realloc(nodes->items, room * sizeof *items);
    if (!items) return em_fail(error, "out_of_memory", "no host memory for a graph of %zu nodes", room);
    nodes->items = items;
    nodes->room = room;
  }
  nodes->items[nodes->count++] = node;
  return true;
}

void em_nodes_free(em_nodes *nodes) {
  free(nodes->items);
  *nodes = (em_nodes){0};
}

bool em_graph_add_copy(em_program *program, CUgraph graph, CUdeviceptr to, CUdeviceptr from, uint64_t bytes,
                       const em_nodes *after, em_nodes *added, em_error *error) {
  em_device *device = program->device;
  const CUDA_MEMCPY3D range = {
      .srcMemoryType = CU_MEMORYTYPE_DEVICE,
      .srcDevice = from,
      .srcPitch = bytes,
      .srcHeight = 1,
      .dstMemoryType = CU_MEMORYTYPE_DEVICE,
      .dstDevice = to,
      .dstPitch = bytes,
      .dstHeight = 1,
      .WidthInBytes = bytes,
      .Height = 1,
      .Depth = 1,
  };
  CUgraphNode node;
  return EM_CALL(device, error, cuGraphAddMemcpyNode, &node, graph, after->items, after->count, &range,
                 device->context->handle) &&
         em_nodes_add(added, node, error);
}

static bool add_launch(em_program *program, CUgraph graph, const em_step *step, uint32_t slot, const em_nodes *after,
                       em_nodes *added, em_error *error) {
  em_device *device = program->device;
  const em_kernel *kernel = &program->kernels[step->kernel];
  em_step_arguments(program, step, slot);
  const CUDA_KERNEL_NODE_PARAMS launch = {
      .gridDimX = step->grid[0],
      .gridDimY = step->grid[1],
      .gridDimZ = step->grid[2],
      .blockDimX = kernel->threads,
      .blockDimY = 1,
      .blockDimZ = 1,
      .sharedMemBytes = kernel->shared_bytes,
      .kernelParams = program->arguments,
      .kern = kernel->handle,
      .ctx = device->context->handle,
  };
  CUgraphNode node;
  return EM_CALL(device, error, cuGraphAddKernelNode, &node, graph, after->items, after->count, &launch) &&
         em_nodes_add(added, node, error);
}

static bool add_step(em_program *program, CUgraph graph, const em_step *step, uint32_t slot, bool sends,
                     const em_nodes *after, em_nodes *added, em_error *error) {
  switch (step->kind) {
    case EM_LAUNCH:
      return add_launch(program, graph, step, slot, after, added, error);
    case EM_COPY:
      return em_graph_add_copy(program, graph, em_program_address(program, step->copy.to, slot),
                               em_program_address(program, step->copy.from, slot), step->copy.from.bytes, after, added,
                               error);
    case EM_EXCHANGE:
      if (step->departure && !sends)
        return em_departure_pack(program, step->departure, slot, graph, after, added, error);
      return em_exchange_capture(program, &step->exchange, slot, 0, graph, after, added, error);
  }
  return false;
}

// Scratch while a graph is built: the last nodes of every step of a segment, where a step's begin, whether no step
// comes after it, and the last nodes of the segments before.
typedef struct building {
  em_nodes nodes, after, last;
  size_t *begin;
  bool *is_last;
} building;

static bool add_all(em_nodes *to, const building *b, uint32_t step, em_error *error) {
  for (size_t i = b->begin[step]; i < b->begin[step + 1]; i++)
    if (!em_nodes_add(to, b->nodes.items[i], error)) return false;
  return true;
}

static bool add_segment(em_program *program, CUgraph graph, em_schedule_entry entry, bool sends, building *b,
                        em_error *error) {
  const em_segment *segment = &program->segments[entry.segment];
  b->nodes.count = 0;
  if (segment->walker && segment->step_count > 0) {
    if (!em_walk_add(program, graph, segment, entry.slot, &b->last, &b->nodes, error)) return false;
    b->last.count = 0;
    return em_nodes_add(&b->last, b->nodes.items[0], error);
  }
  bool good = true;
  for (uint32_t i = 0; good && i < segment->step_count; i++) {
    const em_step *step = &segment->steps[i];
    b->begin[i] = b->nodes.count;
    b->after.count = 0;
    for (uint32_t a = 0; good && a < step->after_count; a++) {
      b->is_last[step->after[a]] = false;
      good = add_all(&b->after, b, step->after[a], error);
    }
    b->is_last[i] = true;
    // A step that waits for none of its own segment waits for the segment before.
    const em_nodes *after = step->after_count == 0 ? &b->last : &b->after;
    good = good && add_step(program, graph, step, entry.slot, sends, after, &b->nodes, error);
    b->begin[i + 1] = b->nodes.count;
    if (!good) em_step_place(error, program, segment, step);
  }
  if (!good || b->nodes.count == 0) return good;
  b->last.count = 0;
  for (uint32_t i = 0; good && i < segment->step_count; i++)
    if (b->is_last[i]) good = add_all(&b->last, b, i, error);
  return good;
}

bool em_graph_build(em_program *program, const em_schedule_entry *entries, size_t count, bool sends,
                    CUgraphExec *built, em_error *error) {
  em_device *device = program->device;
  size_t most = 1;
  for (size_t i = 0; i < count; i++)
    if (program->segments[entries[i].segment].step_count > most)
      most = program->segments[entries[i].segment].step_count;
  em_pool pool = {0};
  building b = {
      .begin = em_pool_take(&pool, most + 1, sizeof *b.begin),
      .is_last = em_pool_take(&pool, most, sizeof *b.is_last),
  };
  CUgraph graph = NULL;
  CUgraphExec made = NULL;
  bool good = (b.begin && b.is_last) ||
              em_fail(error, "out_of_memory", "no host memory for a graph of %zu steps", most);
  good = good && EM_CALL(device, error, cuGraphCreate, &graph, 0);
  for (size_t i = 0; good && i < count; i++) good = add_segment(program, graph, entries[i], sends, &b, error);
  good = good && EM_CALL(device, error, cuGraphInstantiateWithFlags, &made, graph, 0) &&
         EM_CALL(device, error, cuGraphUpload, made, device->stream);
  if (!good && count == 1 && !error->segment[0])
    em_error_place(error, program->name, program->segments[entries[0].segment].name, NULL, NULL);
  if (graph) device->driver->cuGraphDestroy(graph);
  em_pool_free(&pool);
  em_nodes_free(&b.nodes);
  em_nodes_free(&b.after);
  em_nodes_free(&b.last);
  if (good)
    *built = made;
  else if (made)
    device->driver->cuGraphExecDestroy(made);
  return good;
}
