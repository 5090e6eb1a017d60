// Faults with the registers that warpgroups pass on, each beside its correct twin: 384 threads begin with 168 each; one
// warpgroup gives so many back that the two others can have 232.
#include "lib/warpgroup.h"

enum class Fault { none, more_registers_than_there_are, registers_of_some_warps, fewer_registers_than_given };

template <Fault FAULT>
DEVICE void pass_on(float* y) {
  if (threadIdx.x < 128) {
    if (FAULT == Fault::more_registers_than_there_are)
      registers_give_back<48>();
    else if (FAULT == Fault::fewer_registers_than_given)
      registers_give_back<176>();
    else if (FAULT != Fault::registers_of_some_warps || threadIdx.x >= 32)
      registers_give_back<40>();
  } else if (FAULT == Fault::registers_of_some_warps) {
    registers_take<208>();
  } else {
    registers_take<232>();
  }
  y[threadIdx.x] = 1;
}

#define FAULTY(fault)                                                                               \
  KERNEL_SHARED(fault, 384, 1024, TENSOR_MAP x, float* y, uint32_t n) { pass_on<Fault::fault>(y); } \
  KERNEL_SHARED(fault##_fixed, 384, 1024, TENSOR_MAP x, float* y, uint32_t n) { pass_on<Fault::none>(y); }

FAULTY(more_registers_than_there_are)
FAULTY(registers_of_some_warps)
FAULTY(fewer_registers_than_given)
