// Steps on the stream, one by one.
#include "program.h"

void em_step_arguments(em_program *program, const em_step *step, uint32_t slot) {
  const em_kernel *kernel = &program->kernels[step->kernel];
  const em_pointer *pointer = step->pointers;
  CUtensorMap *map = kernel->map_count > 0 ? step->maps + (size_t)slot * kernel->map_count : NULL;
  for (uint32_t i = 0; i < kernel->parameter_count; i++) {
    program->arguments[i] = &program->values[i];
    switch (kernel->parameters[i].kind) {
      case EM_SCALAR:
        program->values[i] = kernel->parameters[i].value;
        break;
      case EM_POINTER:
        program->values[i] = pointer->bound ? em_program_address(program, pointer->range, slot) : 0;
        pointer++;
        break;
      case EM_TENSOR_MAP:
        program->arguments[i] = map++;
        pointer++;
    }
  }
}

void em_step_place(em_error *error, const em_program *program, const em_segment *segment, const em_step *step) {
  em_error_place(error, program->name, segment->name, step->name,
                 step->kind == EM_LAUNCH ? program->kernels[step->kernel].entry : NULL);
}

bool em_step_launch(em_program *program, const em_segment *segment, uint32_t index, uint32_t slot, em_error *error) {
  em_device *device = program->device;
  const em_step *step = &segment->steps[index];
  bool good = false;
  switch (step->kind) {
    case EM_LAUNCH: {
      const em_kernel *kernel = &program->kernels[step->kernel];
      em_step_arguments(program, step, slot);
      // A CUkernel may stand for its CUfunction in the current context.
      good = EM_CALL(device, error, cuLaunchKernel, (CUfunction)kernel->handle, step->grid[0], step->grid[1],
                     step->grid[2], kernel->threads, 1, 1, kernel->shared_bytes, device->stream,
                     program->arguments, NULL);
      break;
    }
    case EM_COPY:
      good = EM_CALL(device, error, cuMemcpyDtoDAsync, em_program_address(program, step->copy.to, slot),
                     em_program_address(program, step->copy.from, slot), step->copy.from.bytes, device->stream);
      break;
    case EM_EXCHANGE:
      good = em_exchange_launch(program, &step->exchange, slot, error);
  }
  if (!good) em_step_place(error, program, segment, step);
  return good;
}
