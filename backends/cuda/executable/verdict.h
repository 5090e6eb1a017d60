// What became of a case, and its record.
#pragma once
#include "case_file.h"
#include "host.h"

enum { MOST_TIMED = 32 };

typedef struct verdict {
  // Of the first output with an element outside its budget; no name where all are within.
  case_difference difference;
  const char *output;
  // That output whole, where it is to be told: as long as `got_bytes`, freed by verdict_free.
  uint8_t *got;
  uint64_t got_bytes;
  double worst;
  float ms;
  // Of a whole program: what each of its segments took, in order.
  uint32_t segment_count;
  struct {
    char name[64];
    float ms;
  } segments[MOST_TIMED];
  // What its arenas have, and what loading it took of the device.
  uint64_t arena_bytes;
  int64_t device_bytes;
} verdict;

void verdict_free(verdict *result);
// A line on standard output; `error` is NULL for a case that ran.
void verdict_report(const host_options *options, const char *id, const case_file *stored, const verdict *result,
                    const em_error *error);
