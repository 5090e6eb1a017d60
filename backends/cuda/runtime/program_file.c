// Reads program files; the format is described in ../program_file.ts. Files are not trusted: what is allocated is
// bounded by the file's size, and every index, range and size is checked here, once, so that nothing after it has to.
#include <stdio.h>
#include <string.h>

#include "program.h"

enum { VERSION = 4, MAX_ARENAS = 64, MAX_PARAMETERS = 1024, ALIGNMENT = 256 };
enum { MAX_THREADS = 1024, MAX_SHARED = 227 * 1024 };  // of a block
// Graphs of a program: segments times slots.
enum { MAX_GRAPHS = 65536 };
enum { MAX_GROUPS = 1024, MAX_CHANNELS = 1024 };
// Bytes a list's item has at least.
enum { ARENA_LEAST = 28, DATA_LEAST = 20, MODULE_LEAST = 8, KERNEL_LEAST = 16, PARAMETER_LEAST = 16 };
enum { GROUP_LEAST = 8, MESSAGE_LEAST = 24 };
enum { SEGMENT_LEAST = 20, STEP_LEAST = 32, PORT_LEAST = 24, POINTER_LEAST = 4, AFTER_LEAST = 4 };

static const char RULES[] = "invalid_program", FORMAT[] = "invalid_format";

#define WHERE(reader, ...) snprintf((reader)->where, sizeof(reader)->where, __VA_ARGS__)

// A range of an arena, or of one slot of it.
static em_range read_range(em_reader *in, const em_program *program, const char *field) {
  em_range range;
  range.arena = em_read_u32(in, field);
  range.offset = em_read_u64(in, field);
  range.bytes = em_read_u64(in, field);
  if (!em_require(in, range.arena < program->arena_count, RULES, "%s is in arena %u, the program has %u", field,
                  range.arena, program->arena_count))
    return (em_range){0};
  const em_arena_plan *plan = &program->plans[range.arena];
  const uint64_t limit = plan->slot_bytes ? plan->slot_bytes : plan->bytes;
  if (!em_require(in, range.offset <= limit && range.bytes <= limit - range.offset, RULES,
                  "%s, %llu bytes at %llu, leaves %s '%s' of %llu bytes", field, (unsigned long long)range.bytes,
                  (unsigned long long)range.offset, plan->slot_bytes ? "a slot of arena" : "arena", plan->kind,
                  (unsigned long long)limit))
    return (em_range){0};
  return range;
}

static void read_groups(em_reader *in, em_program *program) {
  program->group_count = em_read_count(in, GROUP_LEAST, "groups");
  em_require(in, program->group_count <= MAX_GROUPS, RULES, "it has %u groups, at most %d are allowed",
             program->group_count, MAX_GROUPS);
  program->groups = em_reader_take(in, program->group_count, sizeof *program->groups);
  for (uint32_t i = 0; i < program->group_count && !in->failed; i++) {
    em_group *group = &program->groups[i];
    WHERE(in, "groups[%u]", i);
    group->name = em_read_text(in, "name");
    group->size = em_read_u32(in, "size");
    group->self = -1;
    em_require(in, group->size >= 1 && group->size <= INT32_MAX, RULES, "size is %u, not 1 to 2147483647",
               group->size);
    for (uint32_t j = 0; j < i && !in->failed; j++)
      em_require(in, strcmp(group->name, program->groups[j].name) != 0, RULES, "name '%s' is that of groups[%u]",
                 group->name, j);
  }
  in->where[0] = 0;
}

static void read_arenas(em_reader *in, em_program *program) {
  program->arena_count = em_read_count(in, ARENA_LEAST, "arenas");
  em_require(in, program->arena_count <= MAX_ARENAS, RULES, "it has %u arenas, at most %d are allowed",
             program->arena_count, MAX_ARENAS);
  program->plans = em_reader_take(in, program->arena_count, sizeof *program->plans);
  program->step_input = -1;
  for (uint32_t i = 0; i < program->arena_count && !in->failed; i++) {
    em_arena_plan *plan = &program->plans[i];
    WHERE(in, "arenas[%u]", i);
    plan->kind = em_read_text(in, "kind");
    const uint32_t external = em_read_u32(in, "external");
    plan->bytes = em_read_u64(in, "bytes");
    plan->slot_bytes = em_read_u64(in, "slotBytes");
    em_read_text(in, "layoutHash");
    em_require(in, external <= 1, FORMAT, "external is %u, not 0 or 1", external);
    em_require(in,
               plan->slot_bytes == 0 || (plan->bytes / program->slots == plan->slot_bytes &&
                                         plan->bytes % program->slots == 0 && plan->slot_bytes % ALIGNMENT == 0),
               RULES, "slotBytes is %llu, bytes is %llu: not %u slots at multiples of %d",
               (unsigned long long)plan->slot_bytes, (unsigned long long)plan->bytes, program->slots, ALIGNMENT);
    for (uint32_t j = 0; j < i && !in->failed; j++)
      em_require(in, strcmp(plan->kind, program->plans[j].kind) != 0, RULES, "kind '%s' is that of arenas[%u]",
                 plan->kind, j);
    if (strcmp(plan->kind, "step_input") == 0) {
      program->step_input = (int)i;
      em_require(in, plan->slot_bytes == 0, RULES, "the arena step_input has slots");
    }
  }
}

static void read_data(em_reader *in, em_program *program) {
  in->where[0] = 0;
  program->data_count = em_read_count(in, DATA_LEAST, "data");
  program->data = em_reader_take(in, program->data_count, sizeof *program->data);
  for (uint32_t i = 0; i < program->data_count && !in->failed; i++) {
    WHERE(in, "data[%u]", i);
    em_blob *blob = &program->data[i];
    blob->range = read_range(in, program, "range");
    blob->bytes = em_read_bytes(in, blob->range.bytes, "bytes");
    if (!in->failed)
      em_require(in, program->plans[blob->range.arena].slot_bytes == 0, RULES, "data goes into an arena with slots");
  }
}

void em_kernel_read(em_reader *in, const em_program *program, em_kernel *kernel) {
  kernel->entry = in->kernel = em_read_text(in, "entry");
  kernel->module = em_read_u32(in, "module");
  kernel->threads = em_read_u32(in, "threads");
  kernel->shared_bytes = em_read_u32(in, "shared");
  em_require(in, kernel->module < program->module_count, RULES, "module is %u, the program has %u", kernel->module,
             program->module_count);
  em_require(in, kernel->threads >= 1 && kernel->threads <= MAX_THREADS, RULES, "threads is %u, not 1 to %d",
             kernel->threads, MAX_THREADS);
  em_require(in, kernel->shared_bytes <= MAX_SHARED, RULES, "shared is %u, not at most %d", kernel->shared_bytes,
             MAX_SHARED);
}

static void read_kernels(em_reader *in, em_program *program) {
  in->where[0] = 0;
  program->module_count = em_read_count(in, MODULE_LEAST, "modules");
  program->module_names = em_reader_take(in, program->module_count, sizeof *program->module_names);
  program->modules = em_reader_take(in, program->module_count, sizeof(em_module *));
  for (uint32_t i = 0; i < program->module_count && !in->failed; i++) {
    WHERE(in, "modules[%u]", i);
    program->module_names[i] = em_read_text(in, "name");
    em_read_text(in, "textHash");
  }
  in->where[0] = 0;
  program->kernel_count = em_read_count(in, KERNEL_LEAST, "kernels");
  program->kernels = em_reader_take(in, program->kernel_count, sizeof *program->kernels);
  for (uint32_t i = 0; i < program->kernel_count && !in->failed; i++) {
    em_kernel *kernel = &program->kernels[i];
    WHERE(in, "kernels[%u]", i);
    em_kernel_read(in, program, kernel);
    kernel->parameter_count = em_read_count(in, PARAMETER_LEAST, "parameters");
    em_require(in, kernel->parameter_count <= MAX_PARAMETERS, RULES, "it has %u parameters, at most %d are allowed",
               kernel->parameter_count, MAX_PARAMETERS);
    kernel->parameters = em_reader_take(in, kernel->parameter_count, sizeof *kernel->parameters);
    for (uint32_t p = 0; p < kernel->parameter_count && !in->failed; p++) {
      WHERE(in, "kernels[%u].parameters[%u]", i, p);
      em_parameter_read(in, kernel, &kernel->parameters[p]);
    }
  }
  in->kernel = NULL;
  // The driver reads as many arguments as the kernel's image says, whatever the file says: there are always enough.
  program->values = em_reader_take(in, MAX_PARAMETERS, sizeof *program->values);
  program->arguments = em_reader_take(in, MAX_PARAMETERS, sizeof *program->arguments);
  for (uint32_t i = 0; i < MAX_PARAMETERS && !in->failed; i++) program->arguments[i] = &program->values[i];
}

static void read_launch(em_reader *in, em_program *program, em_step *step) {
  step->kernel = em_read_u32(in, "kernel");
  for (int d = 0; d < 3; d++) step->grid[d] = em_read_u32(in, "grid");
  const uint32_t pointers = em_read_count(in, POINTER_LEAST, "pointers");
  if (!em_require(in, step->kernel < program->kernel_count, RULES, "kernel is %u, the program has %u", step->kernel,
                  program->kernel_count))
    return;
  const em_kernel *kernel = &program->kernels[step->kernel];
  in->kernel = kernel->entry;
  em_require(in,
             step->grid[0] >= 1 && step->grid[0] <= INT32_MAX && step->grid[1] >= 1 && step->grid[1] <= 65535 &&
                 step->grid[2] >= 1 && step->grid[2] <= 65535,
             RULES, "the grid is %u x %u x %u, allowed are 1 to 2147483647, 65535 and 65535", step->grid[0],
             step->grid[1], step->grid[2]);
  em_require(in, pointers == kernel->pointer_count, RULES, "it has %u pointers, the kernel takes %u", pointers,
             kernel->pointer_count);
  step->pointers = em_reader_take(in, pointers, sizeof *step->pointers);
  for (uint32_t p = 0; p < pointers && !in->failed; p++) {
    const uint32_t bound = em_read_u32(in, "pointers");
    if (!em_require(in, bound <= 1, FORMAT, "pointers[%u]: bound is %u, not 0 or 1", p, bound) || !bound) continue;
    step->pointers[p].bound = true;
    step->pointers[p].range = read_range(in, program, "a pointer");
    em_require(in, step->pointers[p].range.offset % ALIGNMENT == 0, RULES,
               "pointers[%u] is at %llu, no multiple of %d", p,
               (unsigned long long)step->pointers[p].range.offset, ALIGNMENT);
  }
  em_maps_check(in, kernel, step);
  in->kernel = NULL;
}

static em_message *read_messages(em_reader *in, const em_program *program, const em_group *group, const char *field,
                                 uint32_t *count) {
  *count = em_read_count(in, MESSAGE_LEAST, field);
  em_message *messages = em_reader_take(in, *count, sizeof *messages);
  for (uint32_t i = 0; i < *count && !in->failed; i++) {
    messages[i].peer = em_read_u32(in, field);
    messages[i].range = read_range(in, program, field);
    em_require(in, messages[i].peer < group->size, RULES, "%s[%u]: peer is %u, group '%s' has %u members", field, i,
               messages[i].peer, group->name, group->size);
    em_require(in, messages[i].range.bytes > 0, RULES, "%s[%u] has no bytes", field, i);
  }
  return messages;
}

static void read_exchange(em_reader *in, const em_program *program, em_exchange *exchange) {
  exchange->group = em_read_u32(in, "group");
  exchange->channel = em_read_u32(in, "channel");
  em_require(in, exchange->channel < MAX_CHANNELS, RULES, "channel is %u, not below %d", exchange->channel,
             MAX_CHANNELS);
  if (!em_require(in, exchange->group < program->group_count, RULES, "group is %u, the program has %u",
                  exchange->group, program->group_count))
    return;
  const em_group *group = &program->groups[exchange->group];
  exchange->sends = read_messages(in, program, group, "sends", &exchange->send_count);
  exchange->receives = read_messages(in, program, group, "receives", &exchange->receive_count);
  em_require(in, exchange->send_count > 0 || exchange->receive_count > 0, RULES, "it has no messages");
}

// `stamp` holds for every step the last one, counted from 1, that named it in `after`.
static void read_step(em_reader *in, em_program *program, em_step *step, uint32_t index, uint32_t *stamp) {
  const uint32_t kind = em_read_u32(in, "kind");
  step->name = in->launch = em_read_text(in, "name");
  step->after_count = em_read_count(in, AFTER_LEAST, "after");
  step->after = em_reader_take(in, step->after_count, sizeof *step->after);
  for (uint32_t a = 0; a < step->after_count && !in->failed; a++) {
    const uint32_t earlier = step->after[a] = em_read_u32(in, "after");
    if (em_require(in, earlier < index, RULES, "after[%u] is step %u, which is not earlier", a, earlier) &&
        em_require(in, stamp[earlier] != index + 1, RULES, "after names step %u twice", earlier))
      stamp[earlier] = index + 1;
  }
  if (!em_require(in, kind <= EM_EXCHANGE, FORMAT, "kind is %u, not 0 (launch), 1 (copy) or 2 (exchange)", kind))
    return;
  step->kind = (em_step_kind)kind;
  switch (step->kind) {
    case EM_LAUNCH:
      read_launch(in, program, step);
      break;
    case EM_COPY:
      step->copy.from = read_range(in, program, "from");
      step->copy.to = read_range(in, program, "to");
      em_require(in, step->copy.from.bytes == step->copy.to.bytes && step->copy.from.bytes > 0, RULES,
                 "it copies %llu bytes to %llu", (unsigned long long)step->copy.from.bytes,
                 (unsigned long long)step->copy.to.bytes);
      break;
    case EM_EXCHANGE:
      read_exchange(in, program, &step->exchange);
  }
  in->launch = NULL;
}

static em_port *read_ports(em_reader *in, em_program *program, uint32_t segment, const char *what, uint32_t *count) {
  WHERE(in, "segments[%u]", segment);
  *count = em_read_count(in, PORT_LEAST, what);
  em_port *ports = em_reader_take(in, *count, sizeof *ports);
  for (uint32_t i = 0; i < *count && !in->failed; i++) {
    WHERE(in, "segments[%u].%s[%u]", segment, what, i);
    ports[i].name = em_read_text(in, "name");
    ports[i].range = read_range(in, program, "range");
  }
  return ports;
}

static void read_segments(em_reader *in, em_program *program) {
  in->where[0] = 0;
  program->segment_count = em_read_count(in, SEGMENT_LEAST, "segments");
  em_require(in, (uint64_t)program->segment_count * program->slots <= MAX_GRAPHS, RULES,
             "%u segments of %u slots are more than %d graphs", program->segment_count, program->slots, MAX_GRAPHS);
  program->segments = em_reader_take(in, program->segment_count, sizeof *program->segments);
  for (uint32_t i = 0; i < program->segment_count && !in->failed; i++) {
    em_segment *segment = &program->segments[i];
    WHERE(in, "segments[%u]", i);
    segment->name = in->segment = em_read_text(in, "name");
    segment->step_count = em_read_count(in, STEP_LEAST, "steps");
    segment->steps = em_reader_take(in, segment->step_count, sizeof *segment->steps);
    uint32_t *stamp = em_reader_take(in, segment->step_count, sizeof *stamp);
    for (uint32_t s = 0; s < segment->step_count && !in->failed; s++) {
      WHERE(in, "segments[%u].steps[%u]", i, s);
      read_step(in, program, &segment->steps[s], s, stamp);
    }
    WHERE(in, "segments[%u]", i);
    em_walk_read(in, program, segment);
    segment->inputs = read_ports(in, program, i, "inputs", &segment->input_count);
    for (uint32_t p = 0; p < segment->input_count && !in->failed; p++)
      em_require(in, (int)segment->inputs[p].range.arena == program->step_input, RULES,
                 "input '%s' is not in the arena step_input", segment->inputs[p].name);
    segment->outputs = read_ports(in, program, i, "outputs", &segment->output_count);
    for (uint32_t p = 0; p < segment->output_count && !in->failed; p++) {
      const uint64_t bytes = segment->outputs[p].range.bytes;
      em_require(in, segment->output_bytes <= INT64_MAX - 8 - bytes, RULES, "the outputs have too many bytes");
      segment->output_bytes += (bytes + 7) & ~(uint64_t)7;
    }
    segment->graphs = em_reader_take(in, program->slots, sizeof *segment->graphs);
    in->segment = NULL;
  }
}

bool em_program_parse(em_program *program, const void *file, size_t bytes, em_error *error) {
  em_reader reader = {.pool = &program->pool, .error = error}, *in = &reader;
  if (!em_reader_open(in, "program file", "EXACTMAP", VERSION, file, bytes)) return false;
  program->name = in->program = em_read_text(in, "name");
  program->target = em_read_text(in, "target");
  program->slots = em_read_u32(in, "slots");
  if (!em_require(in, program->slots >= 1 && program->slots <= MAX_GRAPHS, RULES, "slots is %u, not 1 to %d",
                  program->slots, MAX_GRAPHS))
    return false;
  read_groups(in, program);
  read_arenas(in, program);
  read_data(in, program);
  read_kernels(in, program);
  em_walkers_read(in, program);
  read_segments(in, program);
  in->where[0] = 0;
  return em_require(in, in->at == in->size, FORMAT, "%zu bytes follow the last segment", in->size - in->at);
}
