// tessera/collectives/reduction.h: what the ranks have, made one in rank order: the same bits wherever it is done.
// Halves      float16 and bfloat16 are summed in float32 and rounded once. Integers wrap.
// NaN         A maximum over a NaN is a NaN.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <span>

#include "tessera/collectives/collectives.h"

namespace tessera {

// out[i] = the reduction over all parts p of p[i], in their order; `out` may be one of them. A mean is over the parts. The dtype is one of
// those that arguments.h lets pass.
void reduce_in_order(void* out, std::span<const void* const> parts, int64_t numel, c10::ScalarType dtype, Reduce how);

}  // namespace tessera
