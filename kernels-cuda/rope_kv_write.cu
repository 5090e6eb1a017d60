// rope_kv_write: rotates the query and key heads of a packed projection in place by the table row of their position, and
// copies keys and values to their slots of the paged cache, rounding to its format. A thread has four elements of a head;
// of the layout half those that lie half a rotation further too.
//
// Bytes: 4 (f32) or 2 of every element read, as much of queries and keys written, and the cache's of keys and values. A
// row of 48 heads of 128 is 48 KB: at one row a launch's own cost of some 1.3 us is what limits, and this is one launch
// where rope and kv_write are two.
#include "lib/pack.h"
#include "lib/paged.h"
#include "lib/small_float.h"

struct Rotation {
  const float* table;  // [positions][2 * half]: cosines, then sines
  uint32_t half;
  bool interleaved;
};

// A row's place in the cache; none for padding rows.
struct Slot {
  uint64_t first;  // element of head 0
  bool live;
};

template <typename Pool>
struct RopeKvWrite {
  void* qkv;
  uint32_t format, heads, kv_heads, head_packs;
  void *k_pool, *v_pool;

  DEVICE void to_pool(void* pool, const Slot& slot, uint64_t head, uint64_t pack, uint64_t from) const {
    if (!slot.live) return;
    // As it is stored: the cache has what attention would have read from the projection.
    Pool::store4(pool, slot.first + (head * PAGE_TOKENS * head_packs + pack) * 4, load4_of(format, qkv, from));
  }

  // Stores a rotated pack, of keys to the cache too.
  DEVICE void put(const Slot& slot, uint64_t head, uint64_t pack, uint64_t at, float4 x) const {
    store4_as(format, qkv, at, x);
    if (head >= heads) to_pool(k_pool, slot, head - heads, pack, at);
  }

  DEVICE void pack_of(const Rotation& by, const float* row, const Slot& slot, uint64_t head, uint64_t pack,
                      uint64_t at) const {
    if (head >= heads + kv_heads) {
      to_pool(v_pool, slot, head - heads - kv_heads, pack, at);
      return;
    }
    const uint32_t rotated_packs = by.half / 2, half_packs = by.half / 4;
    if (pack >= rotated_packs) {
      if (head >= heads) to_pool(k_pool, slot, head - heads, pack, at);
      return;
    }
    if (by.interleaved) {
      const float4 x = load4_of(format, qkv, at);
      const float2 c = reinterpret_cast<const float2*>(row)[pack];
      const float2 s = reinterpret_cast<const float2*>(row + by.half)[pack];
      put(slot, head, pack, at,
          make_float4(x.x * c.x - x.y * s.x, x.y * c.x + x.x * s.x, x.z * c.y - x.w * s.y, x.w * c.y + x.z * s.y));
      return;
    }
    if (pack >= half_packs) return;  // its partner's thread has it
    const float4 a = load4_of(format, qkv, at), b = load4_of(format, qkv, at + by.half);
    const float4 c = reinterpret_cast<const float4*>(row)[pack];
    const float4 s = reinterpret_cast<const float4*>(row + by.half)[pack];
    put(slot, head, pack, at,
        make_float4(a.x * c.x - b.x * s.x, a.y * c.y - b.y * s.y, a.z * c.z - b.z * s.z, a.w * c.w - b.w * s.w));
    put(slot, head, pack + half_packs, at + by.half,
        make_float4(b.x * c.x + a.x * s.x, b.y * c.y + a.y * s.y, b.z * c.z + a.z * s.z, b.w * c.w + a.w * s.w));
  }
};

template <typename Pool>
DEVICE void rope_kv_write(const RopeKvWrite<Pool>& to, const Rotation& by, const uint32_t* page_table,
                          const uint32_t* sequence, const uint32_t* position, uint32_t rows, uint32_t pages) {
  const uint32_t all_heads = to.heads + 2 * to.kv_heads;
  const uint64_t index = thread_index(), row = index / (to.head_packs * all_heads);
  if (row >= rows) return;
  const uint32_t owner = sequence[row], place = position[row];
  Slot slot = {0, owner != PADDING_ROW};
  if (slot.live) {
    const uint64_t page = page_table[static_cast<uint64_t>(owner) * pages + place / PAGE_TOKENS];
    slot.first = (page * to.kv_heads * PAGE_TOKENS + place % PAGE_TOKENS) * to.head_packs * 4;
  }
  to.pack_of(by, by.table + 2ull * by.half * place, slot, index / to.head_packs % all_heads, index % to.head_packs,
             4 * index);
}

KERNEL(rope_kv_write_f32, 256, void* qkv, const float* table, float* k_pool, float* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, uint32_t format, uint32_t rows,
       uint32_t heads, uint32_t kv_heads, uint32_t head_packs, uint32_t pages, uint32_t half, uint32_t interleaved) {
  rope_kv_write<F32>({qkv, format, heads, kv_heads, head_packs, k_pool, v_pool}, {table, half, interleaved != 0},
                     page_table, sequence, position, rows, pages);
}

KERNEL(rope_kv_write_f16, 256, void* qkv, const float* table, uint16_t* k_pool, uint16_t* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, uint32_t format, uint32_t rows,
       uint32_t heads, uint32_t kv_heads, uint32_t head_packs, uint32_t pages, uint32_t half, uint32_t interleaved) {
  rope_kv_write<F16>({qkv, format, heads, kv_heads, head_packs, k_pool, v_pool}, {table, half, interleaved != 0},
                     page_table, sequence, position, rows, pages);
}

KERNEL(rope_kv_write_e4m3, 256, void* qkv, const float* table, uint8_t* k_pool, uint8_t* v_pool,
       const uint32_t* page_table, const uint32_t* sequence, const uint32_t* position, uint32_t format, uint32_t rows,
       uint32_t heads, uint32_t kv_heads, uint32_t head_packs, uint32_t pages, uint32_t half, uint32_t interleaved) {
  rope_kv_write<E4M3>({qkv, format, heads, kv_heads, head_packs, k_pool, v_pool}, {table, half, interleaved != 0},
                      page_table, sequence, position, rows, pages);
}
