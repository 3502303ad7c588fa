// tessera/plan/cast_rule.h: in which dtype a tensor is wanted, by its key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tessera/layout/dtype.h"

namespace tessera {

// Floating-point tensors whose key the pattern covers (layout/key_filter.h) are wanted as `to`; all other tensors stay what they are.
struct CastRule {
  std::string keys = "*";
  DType to = DType::float32;
};

// True for float64, float32, float16 and bfloat16: what rules convert from and to.
bool is_plain_float(DType dtype);
// What the tensor is wanted as; the last rule that covers it decides.
DType wanted_dtype(const std::vector<CastRule>& rules, std::string_view key, DType dtype);

}  // namespace tessera
