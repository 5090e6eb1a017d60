// What became of a case, as a line of text or JSON.
#include "verdict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void verdict_free(verdict *result) { free(result->got); }

static void print_number(double value) {
  if (isfinite(value))
    printf("%.9g", value);
  else
    printf(isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

// Base64 (RFC 4648).
static void print_bytes(const uint8_t *bytes, uint64_t count) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  putchar('"');
  for (uint64_t i = 0; i < count; i += 3) {
    const uint32_t left = count - i < 3 ? (uint32_t)(count - i) : 3;
    uint32_t group = 0;
    for (uint32_t b = 0; b < 3; b++) group = group << 8 | (b < left ? bytes[i + b] : 0);
    for (uint32_t d = 0; d < 4; d++) putchar(d <= left ? digits[group >> (18 - 6 * d) & 63] : '=');
  }
  putchar('"');
}

static void print_difference(const verdict *result) {
  const case_difference *first = &result->difference;
  printf(",\"output\":");
  host_print_json(result->output, strlen(result->output));
  printf(",\"index\":%llu,\"expected\":", (unsigned long long)first->index);
  print_number(first->expected);
  printf(",\"got\":");
  print_number(first->got);
  printf(",\"budget\":");
  print_number(first->budget);
  printf(",\"wrong\":%llu,\"elements\":%llu", (unsigned long long)first->wrong, (unsigned long long)first->elements);
  if (result->got) {
    printf(",\"gotBytes\":");
    print_bytes(result->got, result->got_bytes);
  }
}

void verdict_report(const host_options *options, const char *id, const case_file *stored, const verdict *result,
                    const em_error *error) {
  const bool pass = !error && !result->output;
  if (options->json) {
    printf("{\"case\":");
    host_print_json(id, strlen(id));
    printf(",\"pass\":%s", pass ? "true" : "false");
    if (error) {
      printf(",\"code\":\"%s\",\"error\":", error->code);
      host_print_json(error->message, strlen(error->message));
      printf(",\"launch\":");
      host_print_json(error->launch, strlen(error->launch));
      printf(",\"kernel\":");
      host_print_json(error->kernel, strlen(error->kernel));
    } else {
      printf(",\"worst\":");
      print_number(result->worst);
      printf(",\"ms\":%.6f,\"bytes\":%.0f,\"flops\":%.0f", (double)result->ms, stored->bytes, stored->flops);
      printf(",\"arenaBytes\":%llu,\"deviceBytes\":%lld", (unsigned long long)result->arena_bytes,
             (long long)result->device_bytes);
      for (uint32_t i = 0; i < result->segment_count; i++) {
        printf("%s{\"name\":", i > 0 ? "," : ",\"segments\":[");
        host_print_json(result->segments[i].name, strlen(result->segments[i].name));
        printf(",\"ms\":%.6f}", (double)result->segments[i].ms);
      }
      if (result->segment_count > 0) printf("]");
    }
    if (!error && result->output) print_difference(result);
    printf("}\n");
  } else if (error) {
    printf("FAIL %s: %s: %s", id, error->code, error->message);
    if (error->launch[0]) {
      printf(" [launch %s", error->launch);
      if (error->kernel[0]) printf(", kernel %s", error->kernel);
      printf("]");
    }
    printf("\n");
  } else if (result->output) {
    const case_difference *first = &result->difference;
    printf("FAIL %s: %s[%llu] expected %.9g, got %.9g, budget %.3g; %llu of %llu elements are wrong\n", id,
           result->output, (unsigned long long)first->index, first->expected, first->got, first->budget,
           (unsigned long long)first->wrong, (unsigned long long)first->elements);
  } else {
    const double seconds = (double)result->ms / 1e3;
    printf("pass %s  worst %.3f of its budget, %.4f ms, %.3g GB/s, %.3g TFLOP/s\n", id, result->worst,
           (double)result->ms, stored->bytes / seconds / 1e9, stored->flops / seconds / 1e12);
  }
  fflush(stdout);
}
