#include "reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct em_pool_block {
  struct em_pool_block *next;
  size_t used, size;
  _Alignas(16) uint8_t memory[];
};

void *em_pool_take(em_pool *pool, size_t count, size_t size) {
  const size_t usual = 4096;
  if (size > 0 && count > (SIZE_MAX / 2) / size) return NULL;
  const size_t bytes = (count * size + 15) & ~(size_t)15;
  struct em_pool_block *block = pool->blocks;
  if (!block || block->size - block->used < bytes) {
    const size_t room = bytes > usual ? bytes : usual;
    block = calloc(1, sizeof *block + room);
    if (!block) return NULL;
    block->size = room;
    block->next = pool->blocks;
    pool->blocks = block;
  }
  void *taken = block->memory + block->used;
  block->used += bytes;
  return taken;
}

void em_pool_free(em_pool *pool) {
  while (pool->blocks) {
    struct em_pool_block *block = pool->blocks;
    pool->blocks = block->next;
    free(block);
  }
}

bool em_require(em_reader *reader, bool condition, const char *code, const char *format, ...) {
  if (reader->failed) return false;
  if (condition) return true;
  char text[384];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  em_fail(reader->error, code, "%s%s%s", reader->where, reader->where[0] ? ": " : "", text);
  em_error_place(reader->error, reader->program, reader->segment, reader->launch, reader->kernel);
  reader->failed = true;
  return false;
}

const uint8_t *em_read_bytes(em_reader *reader, uint64_t count, const char *field) {
  const size_t left = reader->size - reader->at;
  if (!em_require(reader, count <= left, "invalid_format", "%s needs %llu bytes at byte %zu, %zu are left", field,
                  (unsigned long long)count, reader->at, left))
    return NULL;
  const uint8_t *bytes = reader->bytes + reader->at;
  reader->at += (size_t)count;
  return bytes;
}

static uint64_t little_endian(const uint8_t *bytes, int count) {
  uint64_t value = 0;
  for (int i = count - 1; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

uint32_t em_read_u32(em_reader *reader, const char *field) {
  const uint8_t *bytes = em_read_bytes(reader, 4, field);
  return bytes ? (uint32_t)little_endian(bytes, 4) : 0;
}

uint64_t em_read_u64(em_reader *reader, const char *field) {
  const uint8_t *bytes = em_read_bytes(reader, 8, field);
  return bytes ? little_endian(bytes, 8) : 0;
}

void *em_reader_take(em_reader *reader, size_t count, size_t size) {
  if (reader->failed) return NULL;
  void *taken = em_pool_take(reader->pool, count, size);
  em_require(reader, taken != NULL, "out_of_memory", "no host memory for %zu items of %zu bytes", count, size);
  return taken;
}

const char *em_read_text(em_reader *reader, const char *field) {
  const uint32_t length = em_read_u32(reader, field);
  const uint8_t *bytes = em_read_bytes(reader, length, field);
  if (bytes && !em_require(reader, !memchr(bytes, 0, length), "invalid_format", "%s has a zero byte", field))
    bytes = NULL;
  char *text = bytes ? em_reader_take(reader, (size_t)length + 1, 1) : NULL;
  if (!text) return "";
  memcpy(text, bytes, length);
  return text;
}

uint32_t em_read_count(em_reader *reader, size_t least, const char *field) {
  const uint32_t count = em_read_u32(reader, field);
  const size_t left = reader->size - reader->at;
  return em_require(reader, count <= left / least, "invalid_format",
                    "%u %s of at least %zu bytes do not fit into the %zu bytes that are left", count, field, least,
                    left)
             ? count
             : 0;
}

// FNV-1a, 64 bits (Fowler, Noll, Vo): finds damaged files, not forged ones.
uint64_t em_checksum(const uint8_t *bytes, size_t count) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash;
}

bool em_reader_open(em_reader *reader, const char *what, const char magic[8], uint32_t version, const void *file,
                    size_t bytes) {
  const size_t header = 32;
  reader->bytes = file;
  reader->size = bytes;
  if (!em_require(reader, bytes >= header, "invalid_format", "%zu bytes are no %s: its header has %zu", bytes, what,
                  header) ||
      !em_require(reader, memcmp(file, magic, 8) == 0, "invalid_format", "this is no %s: it does not start with %.8s",
                  what, magic))
    return false;
  reader->at = 8;
  const uint32_t found = em_read_u32(reader, "version");
  const uint32_t reserved = em_read_u32(reader, "reserved");
  const uint64_t length = em_read_u64(reader, "length");
  const uint64_t checksum = em_read_u64(reader, "checksum");
  if (!em_require(reader, found == version, "unsupported",
                  "the %s has version %u, this runtime reads version %u; write it again", what, found, version) ||
      !em_require(reader, reserved == 0, "invalid_format", "the reserved field of the %s is not 0", what) ||
      !em_require(reader, length == bytes - header, "invalid_format", "the %s has %zu bytes, its header says %llu",
                  what, bytes - header, (unsigned long long)length))
    return false;
  return em_require(reader, em_checksum(reader->bytes + header, bytes - header) == checksum, "invalid_format",
                    "the %s is damaged: its checksum does not match", what);
}
