// Seeded values for cases that are only timed: never zeros, which hide work and draw less power.
#include <stdlib.h>
#include <string.h>

#include "case_file.h"
#include "internal.h"

// Values of so many bytes differ, then they repeat: far beyond what a kernel could profit from, and an 8B model's weights
// are written in seconds.
enum { CHUNK = 16 << 20 };

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

static uint32_t e4m3_bits(uint64_t r) { return (uint32_t)(r >> 63) << 7 | (0x18u + (uint32_t)(r & 0x1fu)); }
// Quants of which any bits are a value.
static uint32_t any_bits(uint64_t r) { return (uint32_t)(r >> 56); }
// Scales: 2^-7 in each format, and 1 for a whole tensor.
static uint32_t f16_scale(uint64_t r) { return (void)r, 0x2000u; }
static uint32_t f32_scale(uint64_t r) { return (void)r, 0x3c000000u; }
static uint32_t e8m0_scale(uint64_t r) { return (void)r, 120u; }
static uint32_t e4m3_scale(uint64_t r) { return (void)r, 0x04u; }
static uint32_t one(uint64_t r) { return (void)r, 0x3f800000u; }

// A part of a format: a value of `width` bytes for every `elements` of the tensor; 0: one for all of it.
typedef struct fill_part {
  uint32_t (*bits)(uint64_t random);
  uint32_t width, elements;
} fill_part;

static const struct {
  const char *format;
  fill_part parts[3];
} formats[] = {
    {"f32", {{f32_bits, 4, 1}}},
    {"f16", {{f16_bits, 2, 1}}},
    {"bf16", {{bf16_bits, 2, 1}}},
    {"e4m3", {{e4m3_bits, 1, 1}}},
    {"q8_0", {{any_bits, 1, 1}, {f16_scale, 2, 32}}},
    {"q4_0", {{any_bits, 1, 2}, {f16_scale, 2, 32}}},
    {"e4m3_128", {{e4m3_bits, 1, 1}, {f32_scale, 4, 128}}},
    {"mxfp8", {{e4m3_bits, 1, 1}, {e8m0_scale, 1, 32}}},
    {"nvfp4", {{any_bits, 1, 2}, {e4m3_scale, 1, 16}, {one, 4, 0}}},
};

static bool fill_range(em_arena *arena, uint64_t offset, uint64_t bytes, const fill_part *part, uint64_t *state,
                       em_error *error) {
  uint8_t *chunk = malloc(CHUNK);
  if (!chunk) return em_fail(error, "out_of_memory", "no memory for %d bytes", CHUNK);
  const size_t values = bytes < CHUNK ? (size_t)bytes : CHUNK;
  for (size_t i = 0; i + part->width <= values; i += part->width) {
    const uint32_t bits = part->bits(next(state));
    memcpy(chunk + i, &bits, part->width);
  }
  bool good = true;
  for (uint64_t at = 0; good && at < bytes; at += CHUNK)
    good = em_arena_write(arena, offset + at, chunk, bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK, error);
  free(chunk);
  return good;
}

bool case_fill_write(const case_fill *fill, em_arena *arena, em_error *error) {
  uint64_t state = fill->seed, offset = fill->offset;
  const uint64_t n = fill->elements;
  if (n > UINT64_MAX / 8) return em_fail(error, "invalid_format", "a fill has %llu elements", (unsigned long long)n);
  for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
    if (strcmp(fill->format, formats[f].format) != 0) continue;
    for (int p = 0; p < 3 && formats[f].parts[p].bits; p++) {
      const fill_part *part = &formats[f].parts[p];
      const uint64_t bytes = part->elements ? n / part->elements * part->width : part->width;
      if (!fill_range(arena, offset, bytes, part, &state, error)) return false;
      offset += bytes;
    }
    return true;
  }
  return em_fail(error, "invalid_format", "fills are of floats and blocks of them, not '%s'", fill->format);
}
