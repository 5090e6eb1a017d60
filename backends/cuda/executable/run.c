// exactmap-cuda run: continues a prompt, given as token ids, with an exported model.
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// What came so far: ids and text, printed as it comes unless the record is asked for.
typedef struct output {
  const model_file *model;
  bool json;
  uint32_t *ids;
  uint32_t count;
  char *text;
  size_t text_bytes, text_room;
  double first, last;
} output;

static bool take(void *context, uint32_t token) {
  output *out = context;
  out->last = now();
  if (out->count == 0) out->first = out->last;
  out->ids[out->count++] = token;
  if (token >= out->model->token_count) return true;
  const model_token *piece = &out->model->tokens[token];
  if (!out->json) {
    fwrite(piece->text, 1, piece->bytes, stdout);
    fflush(stdout);
    return true;
  }
  if (out->text_bytes + piece->bytes > out->text_room) {
    const size_t room = 2 * out->text_room + piece->bytes + 256;
    char *larger = realloc(out->text, room);
    if (!larger) return true;
    out->text = larger;
    out->text_room = room;
  }
  memcpy(out->text + out->text_bytes, piece->text, piece->bytes);
  out->text_bytes += piece->bytes;
  return true;
}

// Ids separated by commas; freed by the caller.
static bool parse_ids(const char *text, uint32_t **ids, uint32_t *count, em_error *error) {
  *ids = malloc((strlen(text) + 1) * sizeof **ids);
  *count = 0;
  if (!*ids) return em_fail(error, "out_of_memory", "no host memory for the prompt");
  for (const char *at = text;; at++) {
    char *end;
    errno = 0;
    const unsigned long id = strtoul(at, &end, 10);
    if (end == at || *at < '0' || *at > '9' || errno || id > UINT32_MAX || (*end && *end != ','))
      return em_fail(error, "invalid_argument", "--tokens takes ids separated by commas, got '%s'", text);
    (*ids)[(*count)++] = (uint32_t)id;
    if (!*end) return true;
    at = end;
  }
}

static void report(const output *out, const em_device *device, uint32_t prompt, double started, double loaded) {
  const double decoding = out->last - out->first;
  const double speed = out->count > 1 && decoding > 0 ? (out->count - 1) / decoding : 0;
  const double first = out->count > 0 ? out->first - loaded : 0;
  if (!out->json) {
    printf("\n");
    fflush(stdout);
    fprintf(stderr, "\n%u tokens, %.1f tokens/s, first token after %.1f ms, loaded in %.2f s on %s\n", out->count,
            speed, 1e3 * first, loaded - started, em_device_describe(device)->name);
    return;
  }
  printf("{\"device\":");
  host_print_json(em_device_describe(device)->name, strlen(em_device_describe(device)->name));
  printf(",\"promptTokens\":%u,\"tokens\":[", prompt);
  for (uint32_t i = 0; i < out->count; i++) printf("%s%u", i > 0 ? "," : "", out->ids[i]);
  printf("],\"text\":");
  host_print_json(out->text ? out->text : "", out->text_bytes);
  printf(",\"loadSeconds\":%.6f,\"firstTokenSeconds\":%.6f,\"tokensPerSecond\":%.3f}\n", loaded - started, first,
         speed);
}

static bool generate(const host_options *options, model *opened, double started, em_error *error) {
  output out = {.model = &opened->parsed, .json = options->json};
  uint32_t *given = NULL, given_count = 0;
  if (options->tokens && !parse_ids(options->tokens, &given, &given_count, error)) {
    free(given);
    return false;
  }
  const uint32_t *prompt = given ? given : opened->parsed.prompt;
  const uint32_t count = given ? given_count : opened->parsed.prompt_count;
  bool good = true;
  for (uint32_t i = 0; good && i < count; i++)
    if (prompt[i] >= opened->parsed.token_count)
      good = em_fail(error, "invalid_argument", "token %u of the prompt is %u, the model has %u", i, prompt[i],
                     opened->parsed.token_count);
  if (good) {
    const uint32_t room = options->max_tokens < opened->parsed.context ? options->max_tokens : opened->parsed.context;
    out.ids = malloc(((size_t)room + 1) * sizeof *out.ids);
    good = out.ids || em_fail(error, "out_of_memory", "no host memory for %u tokens", room);
  }
  em_ticket *ticket = NULL;
  good = good && em_device_mark(opened->device, &ticket, error) && em_ticket_wait(ticket, error);
  if (ticket) em_ticket_release(ticket);
  const double loaded = now();
  if (good && !options->json)
    for (uint32_t i = 0; i < count; i++)
      fwrite(opened->parsed.tokens[prompt[i]].text, 1, opened->parsed.tokens[prompt[i]].bytes, stdout);
  good = good && model_generate(opened, options, prompt, count, take, &out, error);
  if (good) report(&out, opened->device, count, started, loaded);
  free(out.ids);
  free(out.text);
  free(given);
  return good;
}

int run_command(const host_options *options) {
  const double started = now();
  em_error error = {0};
  em_device *device;
  model opened;
  bool good = em_device_open(options->driver, options->device, &device, &error);
  if (!good) {
    host_print_error(&error);
    return 1;
  }
  good = model_open(options, device, &opened, &error);
  if (good) {
    good = generate(options, &opened, started, &error);
    model_close(&opened);
  }
  if (!good) host_print_error(&error);
  em_device_close(device);
  em_device_release(device);
  return good ? 0 : 1;
}
