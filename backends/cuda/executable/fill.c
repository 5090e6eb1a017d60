// Seeded values for cases that are only timed: never zeros, which hide work and draw less power.
#include <stdlib.h>
#include <string.h>

#include "case_file.h"
#include "internal.h"

enum { CHUNK = 1 << 20 };

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Sign and a magnitude in [2^-4, 1), as the upper bits of the format's encoding.
static uint32_t f32_bits(uint64_t r) {
  return (uint32_t)(r >> 63) << 31 | (0x3d800000u + (uint32_t)(r & 0x1ffffffu));
}
static uint32_t f16_bits(uint64_t r) { return (uint32_t)(r >> 63) << 15 | (0x2c00u + (uint32_t)(r & 0xfffu)); }
static uint32_t bf16_bits(uint64_t r) { return (uint32_t)(r >> 63) << 15 | (0x3d80u + (uint32_t)(r & 0x1ffu)); }

typedef enum fill_kind { FILL_F32, FILL_F16, FILL_BF16, FILL_BYTES, FILL_SCALES } fill_kind;

static void fill_chunk(fill_kind kind, uint8_t *bytes, size_t count, uint64_t *state) {
  const size_t width = kind == FILL_F32 ? 4 : kind == FILL_BYTES ? 1 : 2;
  for (size_t i = 0; i + width <= count; i += width) {
    const uint64_t r = next(state);
    const uint32_t bits = kind == FILL_F32    ? f32_bits(r)
                          : kind == FILL_F16  ? f16_bits(r)
                          : kind == FILL_BF16 ? bf16_bits(r)
                          : kind == FILL_BYTES ? (uint32_t)(r >> 56)
                                               : 0x2000u;  // a scale of 2^-7
    memcpy(bytes + i, &bits, width);
  }
}

static bool fill_range(em_arena *arena, uint64_t offset, uint64_t bytes, fill_kind kind, uint64_t *state,
                       em_error *error) {
  uint8_t *chunk = malloc(CHUNK);
  if (!chunk) return em_fail(error, "out_of_memory", "no memory for %d bytes", CHUNK);
  bool good = true;
  for (uint64_t at = 0; good && at < bytes; at += CHUNK) {
    const size_t count = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;
    fill_chunk(kind, chunk, count, state);
    good = em_arena_write(arena, offset + at, chunk, count, error);
  }
  free(chunk);
  return good;
}

bool case_fill_write(const case_fill *fill, em_arena *arena, em_error *error) {
  uint64_t state = fill->seed;
  const uint64_t n = fill->elements;
  if (n > UINT64_MAX / 8) return em_fail(error, "invalid_format", "a fill has %llu elements", (unsigned long long)n);
  if (strcmp(fill->format, "f32") == 0) return fill_range(arena, fill->offset, 4 * n, FILL_F32, &state, error);
  if (strcmp(fill->format, "f16") == 0) return fill_range(arena, fill->offset, 2 * n, FILL_F16, &state, error);
  if (strcmp(fill->format, "bf16") == 0) return fill_range(arena, fill->offset, 2 * n, FILL_BF16, &state, error);
  const bool q8 = strcmp(fill->format, "q8_0") == 0;
  if (!q8 && strcmp(fill->format, "q4_0") != 0)
    return em_fail(error, "invalid_format", "fills are f32, f16, bf16, q8_0 or q4_0, not '%s'", fill->format);
  const uint64_t quants = q8 ? n : n / 2;
  return fill_range(arena, fill->offset, quants, FILL_BYTES, &state, error) &&
         fill_range(arena, fill->offset + quants, n / 32 * 2, FILL_SCALES, &state, error);
}
