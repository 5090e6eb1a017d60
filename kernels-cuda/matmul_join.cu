// Second launch of a matmul whose reduction was split: y = activation(sum of the parts, in order, + bias) + residual,
// or added to y. Parts have `part_rows` rows, of which the first `rows` are y's.
//
// 4 (splits + 1) bytes per element of y, from L2 where the first launch left them; memory limits.
#include "lib/epilogue.h"

KERNEL(matmul_join, 256, const float* parts, OPTIONAL const void* bias, OPTIONAL const float* residual, void* y,
       uint32_t splits, uint32_t part_rows, uint32_t rows, uint32_t columns, uint32_t bias_format, uint32_t activation,
       uint32_t output_format, uint32_t accumulate) {
  const uint64_t count = static_cast<uint64_t>(rows) * columns;
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= count) return;
  float sum = parts[i];
  const uint64_t part = static_cast<uint64_t>(part_rows) * columns;
  for (uint32_t split = 1; split < splits; split++) sum += parts[split * part + i];
  const float* added = accumulate ? static_cast<const float*>(y) : residual;
  const Epilogue epilogue = {y, columns, bias, bias_format, activation, added, output_format};
  epilogue.store(i / columns, static_cast<uint32_t>(i % columns), sum);
}
