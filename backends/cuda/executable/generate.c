// Drives prefill and decode of one sequence, as src/engine/generator.ts does: sampled ids stay on the device, so the
// next step is submitted before the host has read the token of the one before.
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "run.h"

enum { IN_FLIGHT = 2 };
static const uint32_t NONE = 0xffffffffu;

// One input of a step: values[0..count), then `rest` to the end.
typedef struct input {
  const char *name;
  const uint32_t *values;
  uint32_t count, rest;
} input;

// A step of the sequence: what goes into its inputs, and which segment it is.
typedef struct step {
  uint32_t segment;
  input inputs[16];
  uint32_t input_count;
} step;

static void add(step *step, const char *name, const uint32_t *values, uint32_t count, uint32_t rest) {
  step->inputs[step->input_count++] = (input){name, values, count, rest};
}

static bool find_segment(const model *opened, const char *name, uint32_t *segment, em_error *error) {
  const int found = em_plan_segment(opened->loaded.plan, name);
  if (found < 0) return em_fail(error, "invalid_format", "the program has no segment '%s'", name);
  *segment = (uint32_t)found;
  return true;
}

// Tickets of steps in flight, the oldest first.
typedef struct queue {
  em_ticket *tickets[IN_FLIGHT];
  uint32_t segments[IN_FLIGHT];
  uint32_t count;
} queue;

// Lays the inputs that the segment declares out as one block and submits it. A model without attention, for one,
// reads no page table. With a queue the step's outputs are read back, and its ticket goes there.
static bool submit(model *opened, const step *step, queue *queue, em_error *error) {
  const char *name;
  uint64_t offset = 0, bytes = 0, begin = UINT64_MAX, end = 0;
  for (uint32_t i = 0; (name = em_plan_input(opened->loaded.plan, step->segment, i, &offset, &bytes)); i++) {
    const input *given = step->inputs, *last = step->inputs + step->input_count;
    while (given < last && strcmp(given->name, name) != 0) given++;
    if (given == last) return em_fail(error, "unsupported", "the program has an unknown input '%s'", name);
    uint8_t *to = opened->inputs + offset;
    if (bytes < (uint64_t)given->count * 4)
      return em_fail(error, "invalid_format", "input '%s' has %llu bytes, %u words are needed", name,
                     (unsigned long long)bytes, given->count);
    memcpy(to, given->values, (size_t)given->count * 4);
    for (uint64_t at = (uint64_t)given->count * 4; at + 4 <= bytes; at += 4) memcpy(to + at, &given->rest, 4);
    if (offset < begin) begin = offset;
    if (offset + bytes > end) end = offset + bytes;
  }
  const em_inputs inputs = {begin, opened->inputs + begin, (size_t)(end - begin)};
  em_ticket *ticket;
  if (!em_program_submit(opened->loaded.program, step->segment, 0, end > 0 ? inputs : (em_inputs){0},
                         queue ? &ticket : NULL, error))
    return false;
  if (queue) {
    queue->tickets[queue->count] = ticket;
    queue->segments[queue->count++] = step->segment;
  }
  return true;
}

// What is the same for all steps of a sequence, and what a step changes of it.
typedef struct sequence {
  uint32_t *pages;
  uint32_t page_count;
  uint32_t sampling[8], key[4];
  uint32_t length, sampled;
} sequence;

static void add_common(step *step, sequence *sequence, uint32_t end, bool sampled) {
  static const uint32_t first = 0;
  sequence->length = end;
  sequence->key[2] = end;
  add(step, "page_table", sequence->pages, sequence->page_count, 0);
  add(step, "length", &sequence->length, 1, 0);
  add(step, "options", sequence->sampling, 8, 0);
  add(step, "key", sequence->key, 4, 0);
  add(step, "sampled_sequence", &first, sampled, NONE);
  add(step, "sampled_position", &sequence->length, 1, 0);
}

static bool prefill(model *opened, sequence *sequence, const uint32_t *prompt, uint32_t count, uint32_t *scratch,
                    queue *queue, em_error *error) {
  const model_file *parsed = &opened->parsed;
  for (uint32_t start = 0; start < count;) {
    const model_bucket *bucket = parsed->buckets;
    while (bucket < parsed->buckets + parsed->bucket_count - 1 && bucket->rows < count - start) bucket++;
    const uint32_t rows = count - start < bucket->rows ? count - start : bucket->rows, last_row = rows - 1;
    const bool last = start + rows == count;
    char ids[32], sequences[32], positions[32];
    snprintf(ids, sizeof ids, "ids_%u", bucket->rows);
    snprintf(sequences, sizeof sequences, "sequence_%u", bucket->rows);
    snprintf(positions, sizeof positions, "position_%u", bucket->rows);
    uint32_t *zeros = scratch, *numbers = scratch + rows;
    for (uint32_t i = 0; i < rows; i++) {
      zeros[i] = 0;
      numbers[i] = start + i;
    }
    step step = {0};
    if (!find_segment(opened, bucket->segment, &step.segment, error)) return false;
    add_common(&step, sequence, start + rows, last && count < parsed->context);
    add(&step, ids, prompt + start, rows, 0);
    add(&step, sequences, zeros, rows, NONE);
    add(&step, positions, numbers, rows, 0);
    add(&step, "rows", &last_row, 1, 0);
    if (!submit(opened, &step, last ? queue : NULL, error)) return false;
    start += rows;
  }
  return true;
}

static bool decode(model *opened, sequence *sequence, uint32_t position, queue *queue, em_error *error) {
  const uint32_t first = 0;
  step step = {0};
  if (!find_segment(opened, opened->parsed.decode, &step.segment, error)) return false;
  add_common(&step, sequence, position + 1, position + 1 < opened->parsed.context);
  add(&step, "sequence", &first, 1, NONE);
  add(&step, "position", &position, 1, 0);
  return submit(opened, &step, queue, error);
}

// Waits for the oldest step and takes its token.
static bool take_token(const model *opened, queue *queue, uint32_t *token, em_error *error) {
  em_ticket *ticket = queue->tickets[0];
  const uint32_t segment = queue->segments[0];
  queue->count--;
  for (uint32_t i = 0; i < queue->count; i++) {
    queue->tickets[i] = queue->tickets[i + 1];
    queue->segments[i] = queue->segments[i + 1];
  }
  uint64_t offset = 0, bytes = 0;
  const char *name = NULL;
  bool good = em_ticket_wait(ticket, error);
  for (uint32_t i = 0; good; i++) {
    name = em_plan_output(opened->loaded.plan, segment, i, &offset, &bytes);
    if (!name || strcmp(name, opened->parsed.token) == 0) break;
  }
  if (good && (!name || bytes < 4))
    good = em_fail(error, "invalid_format", "the program has no output '%s'", opened->parsed.token);
  size_t count;
  if (good) memcpy(token, em_ticket_outputs(ticket, &count) + offset, 4);
  em_ticket_release(ticket);
  return good;
}

static bool decode_all(model *opened, sequence *sequence, uint32_t known, uint32_t limit, queue *queue,
                       token_sink sink, void *context, em_error *error) {
  for (uint32_t produced = 0, submitted = 1; produced < limit; produced++) {
    for (; submitted < limit && queue->count < IN_FLIGHT; submitted++)
      if (!decode(opened, sequence, known + submitted - 1, queue, error)) return false;
    uint32_t token = 0;
    if (!take_token(opened, queue, &token, error)) return false;
    for (uint32_t i = 0; i < opened->parsed.stop_count; i++)
      if (opened->parsed.stop[i] == token) return true;
    if (!sink(context, token)) return true;
  }
  return true;
}

bool model_generate(model *opened, const host_options *options, const uint32_t *prompt, uint32_t count,
                    token_sink sink, void *context, em_error *error) {
  const model_file *parsed = &opened->parsed;
  if (count == 0 || count >= parsed->context)
    return em_fail(error, "invalid_argument", "the prompt has %u tokens, the context of %u takes 1 to %u", count,
                   parsed->context, parsed->context - 1);
  const uint32_t room = parsed->context - count;
  const uint32_t limit = options->max_tokens < room ? options->max_tokens : room;
  const uint32_t pages = (parsed->context - 1) / parsed->page_tokens + 1;
  const uint32_t largest = parsed->buckets[parsed->bucket_count - 1].rows;
  em_pool pool = {0};
  uint32_t *scratch = em_pool_take(&pool, 2 * (size_t)(largest < count ? largest : count), sizeof *scratch);
  // The only sequence owns the first pages, in order.
  sequence sequence = {.pages = em_pool_take(&pool, pages, sizeof(uint32_t)), .page_count = pages};
  sequence.key[0] = (uint32_t)options->seed;
  sequence.key[1] = (uint32_t)(options->seed >> 32);
  memcpy(sequence.sampling, options->sampling, sizeof sequence.sampling);
  bool good = (scratch && sequence.pages) || em_fail(error, "out_of_memory", "no host memory for the sequence");
  for (uint32_t i = 0; good && i < pages; i++) sequence.pages[i] = i;
  queue queue = {0};
  good = good && prefill(opened, &sequence, prompt, count, scratch, &queue, error) &&
         decode_all(opened, &sequence, count, limit, &queue, sink, context, error);
  for (uint32_t i = 0; i < queue.count; i++) {
    em_error ignored;
    em_ticket_wait(queue.tickets[i], &ignored);
    em_ticket_release(queue.tickets[i]);
  }
  em_pool_free(&pool);
  return good;
}
