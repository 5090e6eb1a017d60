// The query of a thread where each thread of a warpgroup has one of a tile (lib/attention_items.h), a lane of tensor
// memory, and the keys that it may see.
#pragma once
#include "attention_items.h"
#include "attention_softmax.h"

constexpr uint32_t WARPGROUP = 128;

// A thread's query and the keys it may see by their place.
struct OwnQuery {
  uint32_t row, document, begin, past;

  template <class Storage>
  DEVICE OwnQuery(const Items<Storage>& items, const Item& item) {
    const Dense<Storage>& call = items.call;
    const uint32_t at = threadIdx.x % WARPGROUP;
    row = item.first + at % items.cut.span;
    document = call.document(min(row, item.last));
    begin = call.window > 0 && row >= call.window ? row + 1 - call.window : 0;
    past = call.causal ? min(row + 1, item.end) : item.end;
  }

  // Scores of keys from `key` on that the query may not see become UNSEEN.
  template <uint32_t LOADED, class Storage>
  DEVICE void mask(float (&score)[LOADED], const Dense<Storage>& call, const Item& item, const Step& step,
                   uint32_t key) const {
    if (key < begin || key + LOADED > past) {
      const int32_t from = static_cast<int32_t>(begin - key), to = static_cast<int32_t>(past - key);
#pragma unroll
      for (int32_t i = 0; i < static_cast<int32_t>(LOADED); i++)
        if (i < from || i >= to) score[i] = UNSEEN;
    }
    if (step.documents)
#pragma unroll
      for (uint32_t i = 0; i < LOADED; i++) {
        const uint32_t other = call.document(min(key + i, item.end - 1));
        if (other != document || document == PADDING) score[i] = UNSEEN;
      }
  }
};
