// A stored test vector as a file that needs nothing else: <folder>/cases/<op>/<case>.case; ../case_file.ts writes it.
//
// Numbers are little endian and unaligned. `str`: u32 length, then UTF-8. `blob`: u64 length, then bytes.
//
//     header   "EXMCASE1", u32 version 1, u32 0, u64 bytes of the body, u64 FNV-1a of the body
//     body     str id                                 op/case
//              f64 bytes, f64 flops                   of the op, for the speed in the record
//              blob program                           a program file; its segment `main` is run, or all that it has
//              u64 offset, blob inputs                what goes into the arena step_input
//              u32 initial { str arena, u64 offset, blob }      what other arenas hold before the first run
//              u32 fills { str arena, u64 offset, str format, u64 elements, u64 seed }
//                                                     seeded values, for sizes that no file should hold: magnitudes
//                                                     in [2^-4, 1), any quants
//              u32 outputs { str name, str format,    f32, f16, bf16, e4m3, i32 or u32; others are compared bytewise
//                            u64 elements, blob expected,
//                            u32 tolerances, f32 each }   none: exact; else one per element: the largest allowed
//                                                         difference from the expected value
#pragma once
#include "exactmap.h"
#include "reader.h"

typedef struct case_initial {
  const char *arena;
  uint64_t offset, bytes;
  const uint8_t *data;
} case_initial;

typedef struct case_fill {
  const char *arena, *format;
  uint64_t offset, elements, seed;
} case_fill;

typedef struct case_output {
  const char *name, *format;
  uint64_t elements;
  size_t element_bytes;  // 0: compared bytewise
  const uint8_t *expected;
  uint64_t bytes;
  const uint8_t *tolerances;  // NULL: exact
} case_output;

typedef struct case_file {
  em_pool pool;
  const char *id;
  double bytes, flops;
  const uint8_t *program;
  uint64_t program_bytes;
  em_inputs inputs;
  uint32_t initial_count, fill_count, output_count;
  case_initial *initial;
  case_fill *fills;
  case_output *outputs;
} case_file;

// What it gives points into `file`. Free with em_pool_free(&read->pool), also after a failure.
bool case_file_read(case_file *read, const void *file, size_t bytes, em_error *error);

// Writes a fill's values into its arena.
bool case_fill_write(const case_fill *fill, em_arena *arena, em_error *error);

// How far an output is from what is expected.
typedef struct case_difference {
  uint64_t elements, wrong;  // how many there are, and how many outside their budget
  uint64_t index;            // of the first wrong one
  double expected, got, budget;
  double worst;  // largest error in units of its budget; infinite for a wrong element that must be exact
} case_difference;

case_difference case_compare(const case_output *output, const uint8_t *got);
