#include "tessera/plan/cast_rule.h"

#include "tessera/layout/key_filter.h"

namespace tessera {

bool is_plain_float(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

DType wanted_dtype(const std::vector<CastRule>& rules, std::string_view key, DType dtype) {
  if (!is_plain_float(dtype)) return dtype;
  DType wanted = dtype;
  for (const CastRule& rule : rules) {
    if (matches(rule.keys, key)) wanted = rule.to;
  }
  return wanted;
}

}  // namespace tessera
