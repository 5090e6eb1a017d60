// embedding: y[t,:] = table[ids[t] - first[0],:], zeros where that is past the table; one pack of a row a thread.
//
// Bytes: 4 per element written and the element read (0.6 to 4), no flops but a scale: memory bandwidth is the limit.
#include "lib/pack.h"
#include "lib/row_of_id.h"
#include "lib/small_float.h"

// Four elements a thread; `width` counts packs, `elements` those of the table.
template <typename W>
DEVICE void embedding(const uint32_t* ids, const void* table, float* y, const uint32_t* first, uint64_t rows,
                      uint64_t width, uint32_t vocabulary) {
  const uint64_t i = thread_index();
  if (i >= rows * width) return;
  const uint32_t row = row_of(ids[i / width], first);
  const uint64_t elements = 4 * width * vocabulary, from = 4 * (row * width + i % width);
  F32::store4(y, 4 * i, row < vocabulary ? W::load4(table, elements, from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}

// One element a thread, for widths that are not multiples of 4.
template <typename W>
DEVICE void embedding_odd(const uint32_t* ids, const void* table, float* y, const uint32_t* first, uint64_t rows,
                          uint64_t width, uint32_t vocabulary) {
  const uint64_t i = thread_index();
  if (i >= rows * width) return;
  const uint32_t row = row_of(ids[i / width], first);
  y[i] = row < vocabulary ? W::load(table, width * vocabulary, row * width + i % width) : 0.0f;
}

KERNEL(embedding_f32_1, 256, const uint32_t* ids, const float* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding_odd<F32>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_f16_1, 256, const uint32_t* ids, const uint16_t* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding_odd<F16>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_bf16_1, 256, const uint32_t* ids, const uint16_t* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding_odd<BF16>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_f32_4, 256, const uint32_t* ids, const float* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<F32>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_f16_4, 256, const uint32_t* ids, const uint16_t* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<F16>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_bf16_4, 256, const uint32_t* ids, const uint16_t* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<BF16>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_q8_0_4, 256, const uint32_t* ids, const void* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<Q8_0>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_q4_0_4, 256, const uint32_t* ids, const void* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<Q4_0>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_e4m3_128_4, 256, const uint32_t* ids, const void* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<E4M3_128>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_mxfp8_4, 256, const uint32_t* ids, const void* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<MXFP8>(ids, table, y, first, rows, width, vocabulary);
}

KERNEL(embedding_nvfp4_4, 256, const uint32_t* ids, const void* table, float* y, OPTIONAL const uint32_t* first,
       uint64_t rows, uint64_t width, uint32_t vocabulary) {
  embedding<NVFP4>(ids, table, y, first, rows, width, vocabulary);
}
