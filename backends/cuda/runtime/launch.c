// Steps as launches on the stream, and as nodes of graphs.
#include <stdlib.h>
#include <string.h>

#include "program.h"

// Writes a launch's arguments to the program's buffers.
static void set_arguments(em_program *program, const em_step *step, uint32_t slot) {
  const em_kernel *kernel = &program->kernels[step->kernel];
  const em_pointer *pointer = step->pointers;
  for (uint32_t i = 0; i < kernel->parameter_count; i++) {
    if (!kernel->parameters[i].is_pointer) {
      program->values[i] = kernel->parameters[i].value;
      continue;
    }
    program->values[i] = pointer->bound ? em_program_address(program, pointer->range, slot) : 0;
    pointer++;
  }
}

static void place(em_error *error, const em_program *program, const em_segment *segment, const em_step *step) {
  em_error_place(error, program->name, segment->name, step->name,
                 step->is_copy ? NULL : program->kernels[step->kernel].entry);
}

bool em_step_launch(em_program *program, const em_segment *segment, uint32_t index, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  const em_step *step = &segment->steps[index];
  bool good;
  if (step->is_copy) {
    good = EM_CALL(device, error, cuMemcpyDtoDAsync, em_program_address(program, step->to, slot),
                   em_program_address(program, step->from, slot), step->from.bytes, device->stream);
  } else {
    const em_kernel *kernel = &program->kernels[step->kernel];
    set_arguments(program, step, slot);
    // A CUkernel may stand for its CUfunction in the current context.
    good = EM_CALL(device, error, cuLaunchKernel, (CUfunction)kernel->handle, step->grid[0], step->grid[1],
                   step->grid[2], kernel->threads, 1, 1, 0, device->stream, program->arguments, NULL);
  }
  if (!good) place(error, program, segment, step);
  return good;
}

static bool add_node(em_program *program, CUgraph graph, const em_step *step, uint32_t slot,
                     const CUgraphNode *after, size_t after_count, CUgraphNode *node, em_error *error) {
  em_device *device = program->device;
  if (step->is_copy) {
    const CUDA_MEMCPY3D copy = {
        .srcMemoryType = CU_MEMORYTYPE_DEVICE,
        .srcDevice = em_program_address(program, step->from, slot),
        .srcPitch = step->from.bytes,
        .srcHeight = 1,
        .dstMemoryType = CU_MEMORYTYPE_DEVICE,
        .dstDevice = em_program_address(program, step->to, slot),
        .dstPitch = step->from.bytes,
        .dstHeight = 1,
        .WidthInBytes = step->from.bytes,
        .Height = 1,
        .Depth = 1,
    };
    return EM_CALL(device, error, cuGraphAddMemcpyNode, node, graph, after, after_count, &copy,
                   device->context->handle);
  }
  const em_kernel *kernel = &program->kernels[step->kernel];
  set_arguments(program, step, slot);
  const CUDA_KERNEL_NODE_PARAMS launch = {
      .gridDimX = step->grid[0],
      .gridDimY = step->grid[1],
      .gridDimZ = step->grid[2],
      .blockDimX = kernel->threads,
      .blockDimY = 1,
      .blockDimZ = 1,
      .kernelParams = program->arguments,
      .kern = kernel->handle,
      .ctx = device->context->handle,
  };
  return EM_CALL(device, error, cuGraphAddKernelNode, node, graph, after, after_count, &launch);
}

// Scratch while a graph is built: the nodes of a segment by step, and the last steps (those that no step comes after)
// of the segments before.
typedef struct building {
  CUgraphNode *nodes, *after, *last;
  bool *is_last;
  size_t last_count;
} building;

static bool add_segment(em_program *program, CUgraph graph, em_schedule_entry entry, building *b, em_error *error) {
  const em_segment *segment = &program->segments[entry.segment];
  for (uint32_t i = 0; i < segment->step_count; i++) {
    const em_step *step = &segment->steps[i];
    for (uint32_t a = 0; a < step->after_count; a++) {
      b->after[a] = b->nodes[step->after[a]];
      b->is_last[step->after[a]] = false;
    }
    b->is_last[i] = true;
    // A step that waits for none of its own segment waits for the segment before.
    const bool is_first = step->after_count == 0;
    if (!add_node(program, graph, step, entry.slot, is_first ? b->last : b->after,
                  is_first ? b->last_count : step->after_count, &b->nodes[i], error)) {
      place(error, program, segment, step);
      return false;
    }
  }
  if (segment->step_count == 0) return true;
  b->last_count = 0;
  for (uint32_t i = 0; i < segment->step_count; i++)
    if (b->is_last[i]) b->last[b->last_count++] = b->nodes[i];
  return true;
}

bool em_graph_build(em_program *program, const em_schedule_entry *entries, size_t count, CUgraphExec *built,
                    em_error *error) {
  em_device *device = program->device;
  size_t most = 1;
  for (size_t i = 0; i < count; i++)
    if (program->segments[entries[i].segment].step_count > most)
      most = program->segments[entries[i].segment].step_count;
  em_pool pool = {0};
  building b = {
      .nodes = em_pool_take(&pool, most, sizeof(CUgraphNode)),
      .after = em_pool_take(&pool, most, sizeof(CUgraphNode)),
      .last = em_pool_take(&pool, most, sizeof(CUgraphNode)),
      .is_last = em_pool_take(&pool, most, sizeof(bool)),
  };
  CUgraph graph = NULL;
  CUgraphExec made = NULL;
  bool good = (b.nodes && b.after && b.last && b.is_last) ||
              em_fail(error, "out_of_memory", "no host memory for a graph of %zu nodes", most);
  good = good && EM_CALL(device, error, cuGraphCreate, &graph, 0);
  for (size_t i = 0; good && i < count; i++) good = add_segment(program, graph, entries[i], &b, error);
  good = good && EM_CALL(device, error, cuGraphInstantiate, &made, graph, 0) &&
         EM_CALL(device, error, cuGraphUpload, made, device->stream);
  if (!good && count == 1 && !error->segment[0])
    em_error_place(error, program->name, program->segments[entries[0].segment].name, NULL, NULL);
  if (graph) device->driver->cuGraphDestroy(graph);
  em_pool_free(&pool);
  if (good)
    *built = made;
  else if (made)
    device->driver->cuGraphExecDestroy(made);
  return good;
}
