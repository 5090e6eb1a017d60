#include "model_file.h"

#include <string.h>

static uint32_t *read_ids(em_reader *in, uint32_t *count, const char *field) {
  *count = em_read_count(in, 4, field);
  uint32_t *ids = em_reader_take(in, *count, sizeof *ids);
  for (uint32_t i = 0; i < *count && !in->failed; i++) ids[i] = em_read_u32(in, field);
  return ids;
}

static void read_buckets(em_reader *in, model_file *read) {
  read->bucket_count = em_read_count(in, 8, "prefill");
  read->buckets = em_reader_take(in, read->bucket_count, sizeof *read->buckets);
  em_require(in, read->bucket_count > 0, "invalid_format", "there is no prefill segment");
  for (uint32_t i = 0; i < read->bucket_count && !in->failed; i++) {
    read->buckets[i].rows = em_read_u32(in, "prefill.rows");
    read->buckets[i].segment = em_read_text(in, "prefill.segment");
    em_require(in, read->buckets[i].rows > (i > 0 ? read->buckets[i - 1].rows : 0), "invalid_format",
               "prefill[%u] has %u rows, buckets must ascend", i, read->buckets[i].rows);
  }
}

static void read_tensors(em_reader *in, model_file *read) {
  read->file_count = em_read_count(in, 4, "files");
  read->files = em_reader_take(in, read->file_count, sizeof *read->files);
  for (uint32_t i = 0; i < read->file_count && !in->failed; i++) {
    const char *path = read->files[i] = em_read_text(in, "files");
    // Only what lies in the folder, whoever wrote this.
    em_require(in, path[0] && path[0] != '/' && !strstr(path, ".."), "invalid_format",
               "file '%s' is not in the folder", path);
  }
  read->tensor_count = em_read_count(in, 44, "tensors");
  read->tensors = em_reader_take(in, read->tensor_count, sizeof *read->tensors);
  for (uint32_t i = 0; i < read->tensor_count && !in->failed; i++) {
    model_tensor *tensor = &read->tensors[i];
    tensor->name = em_read_text(in, "tensors.name");
    tensor->arena = em_read_text(in, "tensors.arena");
    tensor->offset = em_read_u64(in, "tensors.offset");
    tensor->bytes = em_read_u64(in, "tensors.bytes");
    tensor->file = em_read_u32(in, "tensors.file");
    tensor->file_offset = em_read_u64(in, "tensors.fileOffset");
    tensor->checksum = em_read_u64(in, "tensors.checksum");
    em_require(in, tensor->file < read->file_count, "invalid_format", "tensor '%s' is in file %u of %u", tensor->name,
               tensor->file, read->file_count);
  }
}

bool model_file_read(model_file *read, const void *file, size_t bytes, em_error *error) {
  memset(read, 0, sizeof *read);
  em_reader reader = {.pool = &read->pool, .error = error}, *in = &reader;
  if (!em_reader_open(in, "model file", "EXMMODEL", 1, file, bytes)) return false;
  read->name = em_read_text(in, "name");
  read->program_bytes = em_read_u64(in, "program");
  read->program = em_read_bytes(in, read->program_bytes, "program");
  read->context = em_read_u32(in, "context");
  read->batch = em_read_u32(in, "batch");
  read->page_tokens = em_read_u32(in, "pageTokens");
  em_require(in, read->context >= 2 && read->batch >= 1 && read->page_tokens >= 1, "invalid_format",
             "context %u, batch %u and pageTokens %u must be at least 2, 1 and 1", read->context, read->batch,
             read->page_tokens);
  read_buckets(in, read);
  read->decode = em_read_text(in, "decode");
  read->token = em_read_text(in, "token");
  read_tensors(in, read);
  read->token_count = em_read_count(in, 4, "tokens");
  read->tokens = em_reader_take(in, read->token_count, sizeof *read->tokens);
  for (uint32_t i = 0; i < read->token_count && !in->failed; i++) {
    read->tokens[i].bytes = em_read_u32(in, "tokens");
    read->tokens[i].text = em_read_bytes(in, read->tokens[i].bytes, "tokens");
  }
  read->stop = read_ids(in, &read->stop_count, "stop");
  read->prompt = read_ids(in, &read->prompt_count, "prompt");
  return em_require(in, in->at == in->size, "invalid_format", "%zu bytes follow the prompt", in->size - in->at);
}

uint64_t model_checksum(uint64_t hash, const uint8_t *data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = 0;
    memcpy(&word, data + i, bytes - i < 8 ? bytes - i : 8);
    hash = (hash ^ word) * 0x100000001b3u;
  }
  return hash;
}
