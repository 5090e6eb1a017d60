// Segments as one persistent kernel (kernels-cuda/lib/walker.h): the program's steps as a table in device memory, and
// the graph's one node that walks it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

// As in lib/walker.h.
enum { THREADS = 512, SHARED = 224256, MOST_TEAMS = 8, TEAMS_BYTES = 216 * 1024, POINTERS = 11, LINE = 128 };

typedef struct record {
  uint32_t kernel, threads, blocks, turn, after, after_count;
  uint64_t streamed, streamed_bytes;
  uint64_t pointers[POINTERS];
} record;
_Static_assert(sizeof(record) == 128, "steps have another form in lib/walker.h");

typedef struct awaited {
  uint32_t step, blocks;
} awaited;

enum { WALKER_LEAST = 20, WALKED_LEAST = 4 };

void em_walkers_read(em_reader *in, em_program *program) {
  in->where[0] = 0;
  program->walker_count = em_read_count(in, WALKER_LEAST, "walkers");
  program->walkers = em_reader_take(in, program->walker_count, sizeof *program->walkers);
  for (uint32_t i = 0; i < program->walker_count && !in->failed; i++) {
    em_walker *walker = &program->walkers[i];
    snprintf(in->where, sizeof in->where, "walkers[%u]", i);
    em_kernel_read(in, program, &walker->kernel);
    em_require(in, walker->kernel.threads == THREADS && walker->kernel.shared_bytes == SHARED, "invalid_program",
               "threads and shared are %u and %u, not %d and %d", walker->kernel.threads, walker->kernel.shared_bytes,
               THREADS, SHARED);
    walker->kernel_count = em_read_count(in, WALKED_LEAST, "kernels");
    walker->kernels = em_reader_take(in, walker->kernel_count, sizeof *walker->kernels);
    for (uint32_t k = 0; k < walker->kernel_count && !in->failed; k++) {
      walker->kernels[k] = em_read_u32(in, "kernels");
      em_require(in, walker->kernels[k] < program->kernel_count, "invalid_program",
                 "kernels[%u] is %u, the program has %u", k, walker->kernels[k], program->kernel_count);
    }
    in->kernel = NULL;
  }
}

// The walker's number for a kernel, or how many it has.
static uint32_t number_of(const em_walker *walker, uint32_t kernel) {
  uint32_t number = 0;
  while (number < walker->kernel_count && walker->kernels[number] != kernel) number++;
  return number;
}

static void check_step(em_reader *in, const em_program *program, const em_walker *walker, const em_step *step) {
  static const char RULES[] = "invalid_program";
  if (!em_require(in, step->kind == EM_LAUNCH, RULES, "it is no launch, and the segment is walked")) return;
  const em_kernel *kernel = &program->kernels[step->kernel];
  em_require(in, number_of(walker, step->kernel) < walker->kernel_count, RULES, "the walker has no kernel %u",
             step->kernel);
  em_require(in, step->grid[1] == 1 && step->grid[2] == 1, RULES, "a walked grid is %u x %u x %u, not n x 1 x 1",
             step->grid[0], step->grid[1], step->grid[2]);
  em_require(in, kernel->map_count == 0 && kernel->pointer_count <= POINTERS, RULES,
             "a walked kernel has %u pointers and %u tensor maps, not at most %d and 0", kernel->pointer_count,
             kernel->map_count, POINTERS);
  const uint32_t threads = kernel->threads;
  if (!em_require(in, threads % 32 == 0 && THREADS % threads == 0, RULES,
                  "a walked block has %u threads, which do not divide %d into warps", threads, THREADS))
    return;
  const uint32_t teams = THREADS / threads < MOST_TEAMS ? THREADS / threads : MOST_TEAMS;
  em_require(in, kernel->shared_bytes <= TEAMS_BYTES / teams, RULES, "a walked block has %u bytes of shared memory",
             kernel->shared_bytes);
}

void em_walk_read(em_reader *in, const em_program *program, em_segment *segment) {
  const uint32_t walker = em_read_u32(in, "walker");
  if (!em_require(in, walker <= program->walker_count, "invalid_program", "walker is %u, the program has %u", walker,
                  program->walker_count) ||
      walker == 0)
    return;
  segment->walker = &program->walkers[walker - 1];
  for (uint32_t s = 0; s < segment->step_count && !in->failed; s++) {
    snprintf(in->where, sizeof in->where, "segments[%td].steps[%u]", segment - program->segments, s);
    in->launch = segment->steps[s].name;
    check_step(in, program, segment->walker, &segment->steps[s]);
  }
  in->launch = NULL;
}

static uint64_t in_lines(uint64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

// What a slot has in device memory: the steps, what they wait for, and counters.
typedef struct places {
  uint64_t waits, counters, end;
} places;

static places places_of(const em_segment *segment) {
  uint64_t waits = 0;
  for (uint32_t s = 0; s < segment->step_count; s++) waits += segment->steps[s].after_count;
  places at;
  at.waits = segment->step_count * sizeof(record);
  at.counters = at.waits + in_lines(waits * sizeof(awaited));
  at.end = at.counters + ((uint64_t)segment->step_count + 1) * LINE;
  return at;
}

static void write_table(const em_program *program, const em_segment *segment, uint32_t slot, uint8_t *table) {
  record *records = (record *)table;
  awaited *waits = (awaited *)(table + places_of(segment).waits);
  const uint32_t blocks_at_once = (uint32_t)program->device->info.multiprocessors;
  uint32_t after = 0, turn = 0;
  for (uint32_t s = 0; s < segment->step_count; s++) {
    const em_step *step = &segment->steps[s];
    const em_kernel *kernel = &program->kernels[step->kernel];
    record *made = &records[s];
    made->kernel = number_of(segment->walker, step->kernel);
    made->threads = kernel->threads;
    made->blocks = step->grid[0];
    made->turn = turn;
    turn = (turn + step->grid[0] % blocks_at_once) % blocks_at_once;
    made->after = after;
    made->after_count = step->after_count;
    for (uint32_t a = 0; a < step->after_count; a++)
      waits[after++] = (awaited){step->after[a], segment->steps[step->after[a]].grid[0]};
    uint32_t pointer = 0;
    for (uint32_t p = 0; p < kernel->parameter_count; p++) {
      if (kernel->parameters[p].kind != EM_POINTER) continue;
      const em_pointer *bound = &step->pointers[pointer];
      made->pointers[pointer] = bound->bound ? em_program_address(program, bound->range, slot) : 0;
      if (kernel->parameters[p].value == 1 && bound->bound) {
        made->streamed = made->pointers[pointer];
        made->streamed_bytes = bound->range.bytes;
      }
      pointer++;
    }
  }
}

static bool make_walk(em_program *program, em_segment *segment, em_error *error) {
  const uint64_t slot_bytes = places_of(segment).end;
  uint8_t *table = malloc(slot_bytes);
  if (!table) return em_fail(error, "out_of_memory", "no host memory for a walk of %u steps", segment->step_count);
  bool good = em_arena_create(program->device, "walk", slot_bytes * program->slots, false, &segment->walk, error);
  for (uint32_t slot = 0; good && slot < program->slots; slot++) {
    memset(table, 0, slot_bytes);
    write_table(program, segment, slot, table);
    good = em_arena_write(segment->walk, slot * slot_bytes, table, slot_bytes, error);
  }
  free(table);
  return good;
}

bool em_walks_make(em_program *program, em_error *error) {
  for (uint32_t i = 0; i < program->segment_count; i++) {
    em_segment *segment = &program->segments[i];
    if (!segment->walker || segment->step_count == 0 || make_walk(program, segment, error)) continue;
    em_error_place(error, program->name, segment->name, NULL, segment->walker->kernel.entry);
    return false;
  }
  return true;
}

bool em_walk_add(em_program *program, CUgraph graph, const em_segment *segment, uint32_t slot, const em_nodes *after,
                 em_nodes *added, em_error *error) {
  em_device *device = program->device;
  const em_kernel *kernel = &segment->walker->kernel;
  const places at = places_of(segment);
  const uint64_t table = segment->walk->address + slot * at.end;
  const uint64_t values[] = {table, table + at.waits, table + at.counters, segment->step_count};
  for (uint32_t i = 0; i < sizeof values / sizeof *values; i++) {
    program->values[i] = values[i];
    program->arguments[i] = &program->values[i];
  }
  const CUDA_KERNEL_NODE_PARAMS launch = {
      .gridDimX = (unsigned)device->info.multiprocessors,
      .gridDimY = 1,
      .gridDimZ = 1,
      .blockDimX = kernel->threads,
      .blockDimY = 1,
      .blockDimZ = 1,
      .sharedMemBytes = kernel->shared_bytes,
      .kernelParams = program->arguments,
      .kern = kernel->handle,
      .ctx = device->context->handle,
  };
  // Its blocks wait for each other: the driver must run all of them at a time, or refuse.
  const CUlaunchAttributeValue cooperative = {.cooperative = 1};
  CUgraphNode node;
  const bool good = EM_CALL(device, error, cuGraphAddKernelNode, &node, graph, after->items, after->count, &launch) &&
                    EM_CALL(device, error, cuGraphKernelNodeSetAttribute, node, CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
                            &cooperative) &&
                    em_nodes_add(added, node, error);
  if (!good) em_error_place(error, program->name, segment->name, NULL, kernel->entry);
  return good;
}

void em_walks_release(em_program *program) {
  for (uint32_t i = 0; program->segments && i < program->segment_count; i++) {
    if (program->segments[i].walk) em_arena_release(program->segments[i].walk);
    program->segments[i].walk = NULL;
  }
}
