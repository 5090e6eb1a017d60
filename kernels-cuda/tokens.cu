// tokens_write: tokens[sequence[t], position[t]] = ids[t]; rows whose place is outside the table are skipped.
// tokens_read: ids[t] = tokens[sequence[t], position[t]]; 0 where the place is outside.
//
// Bytes: 16 per row, no arithmetic, a handful of rows: the launch itself is the cost.
#include "lib/pack.h"

KERNEL(tokens_write, 256, uint32_t* tokens, const uint32_t* ids, const uint32_t* sequence, const uint32_t* position,
       uint32_t rows, uint32_t batch, uint32_t length) {
  const uint64_t row = thread_index();
  if (row >= rows) return;
  const uint32_t s = sequence[row], p = position[row];
  if (s < batch && p < length) tokens[static_cast<uint64_t>(s) * length + p] = ids[row];
}

KERNEL(tokens_read, 256, const uint32_t* tokens, const uint32_t* sequence, const uint32_t* position, uint32_t* ids,
       uint32_t rows, uint32_t batch, uint32_t length) {
  const uint64_t row = thread_index();
  if (row >= rows) return;
  const uint32_t s = sequence[row], p = position[row];
  ids[row] = s < batch && p < length ? tokens[static_cast<uint64_t>(s) * length + p] : 0;
}
