// Row of a table that an id names. A part of a vocabulary begins with id first[0]; ids below it wrap round to what no
// table has. Without `first` ids are rows.
#pragma once
#include "lib/pack.h"

DEVICE uint32_t row_of(uint32_t id, const uint32_t* first) { return first ? id - *first : id; }
