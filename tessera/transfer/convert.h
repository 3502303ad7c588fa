// tessera/transfer/convert.h: element by element, from one dtype to another, and what lazy bits and byte order ask for.
#pragma once

#include "tessera/layout/view.h"

namespace tessera {

// Rounds to nearest even; integers must fit (plan/load_plan.h can_cast holds).
void convert(const View& from, const View& to);
// Reverses the bytes of each element (of each half of a complex one).
void swap_bytes_of(const View& view);
// Negates the imaginary parts of a complex view; negates every number.
void conjugate(const View& view);
void negate(const View& view);

}  // namespace tessera
