// A cursor over untrusted bytes. The first thing that does not fit fills the error and stops the cursor: every read
// after it gives 0, so that callers check once, before they use what they have read.
#pragma once
#include "exactmap.h"

// Memory that is freed all at once.
typedef struct em_pool {
  struct em_pool_block *blocks;
} em_pool;

// Zeroed; NULL when there is no memory.
void *em_pool_take(em_pool *pool, size_t count, size_t size);
void em_pool_free(em_pool *pool);

typedef struct em_reader {
  const uint8_t *bytes;
  size_t size, at;
  em_pool *pool;
  em_error *error;
  bool failed;
  // What is being read, for messages: "segments[2].steps[7]".
  char where[96];
  const char *program, *segment, *launch, *kernel;
} em_reader;

uint32_t em_read_u32(em_reader *reader, const char *field);
uint64_t em_read_u64(em_reader *reader, const char *field);
// A string in the pool; "" after a failure.
const char *em_read_text(em_reader *reader, const char *field);
const uint8_t *em_read_bytes(em_reader *reader, uint64_t count, const char *field);
// A list's length, of which every item has at least `least` bytes; 0 after a failure.
uint32_t em_read_count(em_reader *reader, size_t least, const char *field);
// Items for a list, zeroed; NULL after a failure.
void *em_reader_take(em_reader *reader, size_t count, size_t size);
// Fails unless `condition`.
bool em_require(em_reader *reader, bool condition, const char *code, const char *format, ...) EM_PRINTF(4, 5);

// Magic, version, length and checksum of a file of this project; on success the cursor is over the body.
bool em_reader_open(em_reader *reader, const char *what, const char magic[8], uint32_t version, const void *file,
                    size_t bytes);
uint64_t em_checksum(const uint8_t *bytes, size_t count);
