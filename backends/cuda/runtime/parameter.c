// What kernels take: pointers, scalars, and tensor maps, which hold a matrix and the box that is copied at a time.
#include <stdlib.h>

#include "program.h"

// What the driver asks of a box and of how far rows are apart; rows of a box are whole swizzle spans.
enum { MAX_BOX = 256, BOX_ROW_BYTES = 128, STRIDE_UNIT = 16 };

// Storage formats of tensor maps by their number in a program: f32, f16, bf16, and e4m3, which the driver has as bytes.
static const struct {
  int type;
  uint32_t bytes;
} FORMATS[] = {{CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4},
               {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2},
               {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2},
               {CU_TENSOR_MAP_DATA_TYPE_UINT8, 1}};

static void read_map(em_reader *in, em_parameter *map) {
  const uint32_t format = em_read_u32(in, "format");
  map->rows = em_read_u32(in, "rows");
  map->width = em_read_u32(in, "width");
  map->box_rows = em_read_u32(in, "boxRows");
  map->box_width = em_read_u32(in, "boxWidth");
  const bool known = format < sizeof FORMATS / sizeof *FORMATS;
  em_require(in, known, "invalid_format", "format is %u, not 0 (f32), 1 (f16), 2 (bf16) or 3 (e4m3)", format);
  map->type = known ? FORMATS[format].type : 0;
  map->element_bytes = known ? FORMATS[format].bytes : 1;
  em_require(in, map->rows >= 1 && map->width >= 1 && map->width % (STRIDE_UNIT / map->element_bytes) == 0,
             "invalid_program", "the matrix is %u x %u; its rows must be multiples of %d bytes", map->rows, map->width,
             STRIDE_UNIT);
  em_require(in,
             map->box_rows >= 1 && map->box_rows <= MAX_BOX && map->box_width == BOX_ROW_BYTES / map->element_bytes,
             "invalid_program", "the box is %u x %u, not up to %d rows of %d bytes", map->box_rows, map->box_width,
             MAX_BOX, BOX_ROW_BYTES);
}

void em_parameter_read(em_reader *in, em_kernel *kernel, em_parameter *parameter) {
  const uint32_t kind = em_read_u32(in, "kind"), bytes = em_read_u32(in, "bytes");
  parameter->value = em_read_u64(in, "value");
  em_require(in, kind <= EM_TENSOR_MAP, "invalid_format", "kind is %u, not 0 (pointer), 1 (scalar) or 2 (tensor map)",
             kind);
  em_require(in, kind == EM_TENSOR_MAP ? bytes == sizeof(CUtensorMap) : bytes == 8 || (bytes == 4 && kind == EM_SCALAR),
             "invalid_format", "bytes is %u, not 8, 4 of a scalar or 128 of a tensor map", bytes);
  em_require(in, kind != EM_POINTER || parameter->value <= 1, "invalid_format", "value is %llu, not 0 or 1 of a pointer",
             (unsigned long long)parameter->value);
  parameter->kind = (em_parameter_kind)kind;
  kernel->pointer_count += kind != EM_SCALAR;
  kernel->map_count += kind == EM_TENSOR_MAP;
  if (kind == EM_TENSOR_MAP) read_map(in, parameter);
}

void em_maps_check(em_reader *in, const em_kernel *kernel, const em_step *step) {
  const em_pointer *pointer = step->pointers;
  for (uint32_t i = 0; i < kernel->parameter_count && !in->failed; i++) {
    const em_parameter *parameter = &kernel->parameters[i];
    if (parameter->kind == EM_SCALAR) continue;
    const em_pointer *bound = pointer++;
    if (parameter->kind == EM_TENSOR_MAP)
      em_require(in, bound->bound && parameter->rows <= bound->range.bytes / parameter->element_bytes / parameter->width, "invalid_program",
                 "the matrix of parameter %u, %u x %u, is not in the %llu bytes bound to it", i, parameter->rows,
                 parameter->width, (unsigned long long)(bound->bound ? bound->range.bytes : 0));
  }
}

static bool make_map(em_program *program, const em_parameter *parameter, CUdeviceptr address, CUtensorMap *map,
                     em_error *error) {
  const cuuint64_t sizes[] = {parameter->width, parameter->rows}, stride = sizes[0] * parameter->element_bytes;
  const cuuint32_t box[] = {parameter->box_width, parameter->box_rows}, every[] = {1, 1};
  return EM_CALL(program->device, error, cuTensorMapEncodeTiled, map, parameter->type, 2, (void *)(uintptr_t)address,
                 sizes, &stride, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

static bool make_maps_of_step(em_program *program, em_step *step, em_error *error) {
  const em_kernel *kernel = &program->kernels[step->kernel];
  for (uint32_t slot = 0; slot < program->slots; slot++) {
    CUtensorMap *map = step->maps + (size_t)slot * kernel->map_count;
    const em_pointer *pointer = step->pointers;
    for (uint32_t i = 0; i < kernel->parameter_count; i++) {
      const em_parameter *parameter = &kernel->parameters[i];
      if (parameter->kind == EM_TENSOR_MAP &&
          !make_map(program, parameter, em_program_address(program, pointer->range, slot), map++, error))
        return false;
      pointer += parameter->kind != EM_SCALAR;
    }
  }
  return true;
}

static uint32_t maps_of(const em_program *program, const em_step *step) {
  return step->kind == EM_LAUNCH ? program->kernels[step->kernel].map_count * program->slots : 0;
}

bool em_maps_make(em_program *program, em_error *error) {
  size_t count = 0;
  for (uint32_t i = 0; i < program->segment_count; i++)
    for (uint32_t s = 0; s < program->segments[i].step_count; s++)
      count += maps_of(program, &program->segments[i].steps[s]);
  if (count == 0) return true;
  CUtensorMap *map = program->maps = aligned_alloc(_Alignof(CUtensorMap), count * sizeof *map);
  if (!map) return em_fail(error, "out_of_memory", "no host memory for %zu tensor maps", count);
  for (uint32_t i = 0; i < program->segment_count; i++) {
    const em_segment *segment = &program->segments[i];
    for (uint32_t s = 0; s < segment->step_count; s++) {
      em_step *step = &segment->steps[s];
      if (maps_of(program, step) == 0) continue;
      step->maps = map;
      map += maps_of(program, step);
      if (make_maps_of_step(program, step, error)) continue;
      em_step_place(error, program, segment, step);
      return false;
    }
  }
  return true;
}
