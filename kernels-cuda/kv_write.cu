// kv_write: copies the keys and values of a packed projection to their slots of the paged cache, rounding to the
// cache's format; four elements of a key and the same of its value a thread.
//
// Bytes: 4 (f32) or 2 per element read, 4 (f32), 2 (f16) or 1 (e4m3) written; no arithmetic: memory bandwidth is the limit. Page
// table, sequence and position come from cache.
#include "lib/pack.h"
#include "lib/paged.h"
#include "lib/small_float.h"

// `head_packs` packs of four make a head; `pages` are the entries of a row of the page table.
template <typename W>
DEVICE void kv_write(const void* qkv, uint32_t qkv_format, void* k_pool, void* v_pool, const uint32_t* page_table,
                     const uint32_t* sequence, const uint32_t* position, uint32_t rows, uint32_t heads,
                     uint32_t kv_heads, uint32_t head_packs, uint32_t pages) {
  const uint64_t index = thread_index(), row = index / (head_packs * kv_heads);
  if (row >= rows) return;
  const uint32_t owner = sequence[row], place = position[row];
  if (owner == PADDING_ROW) return;
  const uint64_t pack = index % head_packs, head = index / head_packs % kv_heads;
  const uint64_t page = page_table[static_cast<uint64_t>(owner) * pages + place / PAGE_TOKENS];
  const uint64_t to = ((page * kv_heads + head) * PAGE_TOKENS + place % PAGE_TOKENS) * head_packs + pack;
  const uint64_t key = (row * (heads + 2 * kv_heads) + heads + head) * head_packs + pack;
  const float4 k = load4_of(qkv_format, qkv, 4 * key);
  const float4 v = load4_of(qkv_format, qkv, 4 * (key + kv_heads * head_packs));
  W::store4(k_pool, 4 * to, k);
  W::store4(v_pool, 4 * to, v);
}

KERNEL(kv_write_f32, 256, const void* qkv, float* k_pool, float* v_pool, const uint32_t* page_table,
       const uint32_t* sequence, const uint32_t* position, uint32_t qkv_format, uint32_t rows, uint32_t heads,
       uint32_t kv_heads, uint32_t head_packs, uint32_t pages) {
  kv_write<F32>(qkv, qkv_format, k_pool, v_pool, page_table, sequence, position, rows, heads, kv_heads, head_packs,
                pages);
}

KERNEL(kv_write_f16, 256, const void* qkv, uint16_t* k_pool, uint16_t* v_pool, const uint32_t* page_table,
       const uint32_t* sequence, const uint32_t* position, uint32_t qkv_format, uint32_t rows, uint32_t heads,
       uint32_t kv_heads, uint32_t head_packs, uint32_t pages) {
  kv_write<F16>(qkv, qkv_format, k_pool, v_pool, page_table, sequence, position, rows, heads, kv_heads, head_packs,
                pages);
}

KERNEL(kv_write_e4m3, 256, const void* qkv, uint8_t* k_pool, uint8_t* v_pool, const uint32_t* page_table,
       const uint32_t* sequence, const uint32_t* position, uint32_t qkv_format, uint32_t rows, uint32_t heads,
       uint32_t kv_heads, uint32_t head_packs, uint32_t pages) {
  kv_write<E4M3>(qkv, qkv_format, k_pool, v_pool, page_table, sequence, position, rows, heads, kv_heads, head_packs,
                pages);
}
