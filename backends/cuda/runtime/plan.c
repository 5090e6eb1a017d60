// Program files without a device.
#include <stdlib.h>
#include <string.h>

#include "program.h"

struct em_plan {
  em_program program;
};

bool em_plan_open(const void *file, size_t bytes, em_plan **opened, em_error *error) {
  em_plan *plan = calloc(1, sizeof *plan);
  if (!plan) return em_fail(error, "out_of_memory", "no host memory for a program");
  if (em_program_parse(&plan->program, file, bytes, error)) {
    *opened = plan;
    return true;
  }
  em_plan_close(plan);
  return false;
}

void em_plan_close(em_plan *plan) {
  em_pool_free(&plan->program.pool);
  free(plan);
}

const char *em_plan_arena(const em_plan *plan, uint32_t index, uint64_t *bytes) {
  if (index >= plan->program.arena_count) return NULL;
  *bytes = plan->program.plans[index].bytes;
  return plan->program.plans[index].kind;
}

const char *em_plan_module(const em_plan *plan, uint32_t index) {
  return index < plan->program.module_count ? plan->program.module_names[index] : NULL;
}

int em_plan_segment(const em_plan *plan, const char *name) {
  for (uint32_t i = 0; i < plan->program.segment_count; i++)
    if (strcmp(plan->program.segments[i].name, name) == 0) return (int)i;
  return -1;
}

const char *em_plan_segment_name(const em_plan *plan, uint32_t index) {
  return index < plan->program.segment_count ? plan->program.segments[index].name : NULL;
}

const char *em_plan_input(const em_plan *plan, uint32_t segment, uint32_t index, uint64_t *offset, uint64_t *bytes) {
  if (segment >= plan->program.segment_count || index >= plan->program.segments[segment].input_count) return NULL;
  const em_port *port = &plan->program.segments[segment].inputs[index];
  *offset = port->range.offset;
  *bytes = port->range.bytes;
  return port->name;
}

const char *em_plan_output(const em_plan *plan, uint32_t segment, uint32_t index, uint64_t *offset, uint64_t *bytes) {
  if (segment >= plan->program.segment_count || index >= plan->program.segments[segment].output_count) return NULL;
  const em_port *ports = plan->program.segments[segment].outputs;
  *offset = 0;
  for (uint32_t i = 0; i < index; i++) *offset += (ports[i].range.bytes + 7) & ~(uint64_t)7;
  *bytes = ports[index].range.bytes;
  return ports[index].name;
}
