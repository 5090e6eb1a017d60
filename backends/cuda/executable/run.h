// A loaded model and the sequence it decodes.
#pragma once
#include "host.h"
#include "model_file.h"

typedef struct model {
  host_file file;
  model_file parsed;
  host_program loaded;
  em_device *device;
  // Bytes of the input blocks of all segments: as long as the arena step_input.
  uint8_t *inputs;
  uint64_t input_bytes;
} model;

bool model_open(const host_options *options, em_device *device, model *opened, em_error *error);
void model_close(model *opened);

// Prefills the prompt and decodes; `sink` gets each sampled id and returns whether to go on.
typedef bool (*token_sink)(void *context, uint32_t token);
bool model_generate(model *opened, const host_options *options, const uint32_t *prompt, uint32_t count,
                    token_sink sink, void *context, em_error *error);
