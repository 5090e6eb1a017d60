#include "case_file.h"

#include <math.h>
#include <string.h>

static double read_f64(em_reader *in, const char *field) {
  const uint64_t bits = em_read_u64(in, field);
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

static const uint8_t *read_blob(em_reader *in, uint64_t *bytes, const char *field) {
  *bytes = em_read_u64(in, field);
  return em_read_bytes(in, *bytes, field);
}

static size_t element_bytes(const char *format) {
  if (strcmp(format, "f32") == 0 || strcmp(format, "i32") == 0 || strcmp(format, "u32") == 0) return 4;
  if (strcmp(format, "f16") == 0 || strcmp(format, "bf16") == 0) return 2;
  if (strcmp(format, "e4m3") == 0) return 1;
  return 0;
}

static void read_output(em_reader *in, case_output *output) {
  output->name = em_read_text(in, "outputs.name");
  output->format = em_read_text(in, "outputs.format");
  output->elements = em_read_u64(in, "outputs.elements");
  output->expected = read_blob(in, &output->bytes, "outputs.expected");
  const uint32_t tolerances = em_read_count(in, 4, "outputs.tolerances");
  const uint8_t *values = em_read_bytes(in, (uint64_t)tolerances * 4, "outputs.tolerances");
  if (tolerances > 0) output->tolerances = values;
  output->element_bytes = element_bytes(output->format);
  if (output->element_bytes == 0) output->elements = output->bytes;
  em_require(in, output->element_bytes == 0 || output->elements <= output->bytes / output->element_bytes,
             "invalid_format", "output %s has %llu elements in %llu bytes", output->name,
             (unsigned long long)output->elements, (unsigned long long)output->bytes);
  em_require(in, tolerances == 0 || (output->element_bytes > 0 && tolerances == output->elements), "invalid_format",
             "output %s has %u tolerances for %llu elements", output->name, tolerances,
             (unsigned long long)output->elements);
}

bool case_file_read(case_file *read, const void *file, size_t bytes, em_error *error) {
  memset(read, 0, sizeof *read);
  em_reader reader = {.pool = &read->pool, .error = error}, *in = &reader;
  if (!em_reader_open(in, "case file", "EXMCASE1", 1, file, bytes)) return false;
  read->id = em_read_text(in, "id");
  read->bytes = read_f64(in, "bytes");
  read->flops = read_f64(in, "flops");
  read->program = read_blob(in, &read->program_bytes, "program");
  read->inputs.offset = em_read_u64(in, "offset");
  uint64_t count = 0;
  read->inputs.bytes = read_blob(in, &count, "inputs");
  read->inputs.count = (size_t)count;
  read->initial_count = em_read_count(in, 20, "initial");
  read->initial = em_reader_take(in, read->initial_count, sizeof *read->initial);
  for (uint32_t i = 0; i < read->initial_count && !in->failed; i++) {
    read->initial[i].arena = em_read_text(in, "initial.arena");
    read->initial[i].offset = em_read_u64(in, "initial.offset");
    read->initial[i].data = read_blob(in, &read->initial[i].bytes, "initial");
  }
  read->fill_count = em_read_count(in, 32, "fills");
  read->fills = em_reader_take(in, read->fill_count, sizeof *read->fills);
  for (uint32_t i = 0; i < read->fill_count && !in->failed; i++) {
    read->fills[i].arena = em_read_text(in, "fills.arena");
    read->fills[i].offset = em_read_u64(in, "fills.offset");
    read->fills[i].format = em_read_text(in, "fills.format");
    read->fills[i].elements = em_read_u64(in, "fills.elements");
    read->fills[i].seed = em_read_u64(in, "fills.seed");
  }
  read->output_count = em_read_count(in, 28, "outputs");
  read->outputs = em_reader_take(in, read->output_count, sizeof *read->outputs);
  for (uint32_t i = 0; i < read->output_count && !in->failed; i++) read_output(in, &read->outputs[i]);
  return em_require(in, in->at == in->size, "invalid_format", "%zu bytes follow the last output", in->size - in->at);
}

static double f16_value(uint16_t half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const double sign = half & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return exponent == 0 ? sign * ldexp(mantissa, -24) : sign * ldexp(1024 + mantissa, exponent - 25);
}

// OFP8: 448 is the largest number, there is no infinity.
static double e4m3_value(uint8_t byte) {
  const int exponent = (byte >> 3) & 15, mantissa = byte & 7;
  const double sign = byte & 0x80 ? -1 : 1;
  if (exponent == 15 && mantissa == 7) return NAN;
  return exponent == 0 ? sign * ldexp(mantissa, -9) : sign * ldexp(8 + mantissa, exponent - 10);
}

static double element(const case_output *output, const uint8_t *bytes, uint64_t index) {
  if (output->element_bytes == 0) return bytes[index];
  uint32_t bits = 0;
  for (size_t i = 0; i < output->element_bytes; i++)
    bits |= (uint32_t)bytes[index * output->element_bytes + i] << (8 * i);
  float value;
  switch (output->format[0]) {
    case 'u':
      return bits;
    case 'i':
      return (int32_t)bits;
    case 'b':
      bits <<= 16;
      break;
    default:
      if (output->element_bytes == 2) return f16_value((uint16_t)bits);
      if (output->element_bytes == 1) return e4m3_value((uint8_t)bits);
  }
  memcpy(&value, &bits, 4);
  return value;
}

case_difference case_compare(const case_output *output, const uint8_t *got) {
  case_difference difference = {.elements = output->elements};
  for (uint64_t i = 0; i < output->elements; i++) {
    const double want = element(output, output->expected, i), have = element(output, got, i);
    float budget = 0;
    if (output->tolerances) memcpy(&budget, output->tolerances + 4 * i, 4);
    const double distance = want == have || (isnan(want) && isnan(have)) ? 0 : fabs(have - want);
    const double error = distance == 0 ? 0 : isnan(distance) ? INFINITY : distance / budget;
    if (error > difference.worst) difference.worst = error;
    if (error > 1 && difference.wrong++ == 0) {
      difference.index = i;
      difference.expected = want;
      difference.got = have;
      difference.budget = budget;
    }
  }
  return difference;
}
