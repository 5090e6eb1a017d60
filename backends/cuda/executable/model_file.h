// A model ready to run: <folder>/model.exm, with its weights in files beside it; written by ../model_file.ts.
//
// Numbers are little endian and unaligned. `str`: u32 length, then UTF-8. `blob`: u64 length, then bytes.
//
//     header   "EXMMODEL", u32 version 1, u32 0, u64 bytes of the body, u64 FNV-1a of the body
//     body     str name
//              blob program                an inference program file (src/engine/inference_graph.ts)
//              u32 context                 longest sequence in tokens
//              u32 batch                   sequences that decode together; the first is used
//              u32 pageTokens              tokens of a KV page
//              u32 prefill { u32 rows, str segment }      ascending; a bucket of R rows has the inputs
//                                                         ids_R, sequence_R, position_R, rows, and those of decode
//                                                         but for sequence and position
//              str decode                  segment with the inputs sequence, position, page_table, length, options,
//                                          key, sampled_sequence, sampled_position
//              str token                   name of the output with the sampled ids, one u32 per sequence
//              u32 files { str path }      relative to the folder
//              u32 tensors { str name, str arena, u64 offset, u64 bytes,
//                            u32 file, u64 fileOffset, u64 checksum }
//              u32 tokens { u32 length, bytes }           what each id prints, by id
//              u32 stop { u32 id }                        ids that end a text; not printed
//              u32 prompt { u32 id }                      what is continued where --tokens is not given
//
// The checksum of a tensor is FNV-1a over its bytes as u64 words, the last padded with zeros: eight times as fast as
// over bytes, and weights are large.
#pragma once
#include "exactmap.h"
#include "reader.h"

typedef struct model_bucket {
  uint32_t rows;
  const char *segment;
} model_bucket;

typedef struct model_tensor {
  const char *name, *arena;
  uint64_t offset, bytes;
  uint32_t file;
  uint64_t file_offset, checksum;
} model_tensor;

typedef struct model_token {
  uint32_t bytes;
  const uint8_t *text;
} model_token;

typedef struct model_file {
  em_pool pool;
  const char *name, *decode, *token;
  const uint8_t *program;
  uint64_t program_bytes;
  uint32_t context, batch, page_tokens;
  uint32_t bucket_count, file_count, tensor_count, token_count, stop_count, prompt_count;
  model_bucket *buckets;
  const char **files;
  model_tensor *tensors;
  model_token *tokens;
  uint32_t *stop, *prompt;
} model_file;

// What it gives points into `file`. Free with em_pool_free(&read->pool), also after a failure.
bool model_file_read(model_file *read, const void *file, size_t bytes, em_error *error);

// The checksum over words; `bytes` continues what gave `hash`, and is a multiple of 8 except at the end.
#define MODEL_CHECKSUM_START 0xcbf29ce484222325u
uint64_t model_checksum(uint64_t hash, const uint8_t *data, size_t bytes);
