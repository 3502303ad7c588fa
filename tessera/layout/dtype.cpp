#include "tessera/layout/dtype.h"

#include <algorithm>
#include <array>

#include "tessera/base/error.h"

namespace tessera {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  int8_t bytes;
  int8_t swap;
};

constexpr std::array rows = {
    Row{DType::float64, "float64", 8, 8},
    Row{DType::float32, "float32", 4, 4},
    Row{DType::float16, "float16", 2, 2},
    Row{DType::bfloat16, "bfloat16", 2, 2},
    Row{DType::int64, "int64", 8, 8},
    Row{DType::int32, "int32", 4, 4},
    Row{DType::int16, "int16", 2, 2},
    Row{DType::int8, "int8", 1, 1},
    Row{DType::uint8, "uint8", 1, 1},
    Row{DType::boolean, "bool", 1, 1},
    Row{DType::complex64, "complex64", 8, 4},
    Row{DType::complex128, "complex128", 16, 8},
    Row{DType::complex32, "complex32", 4, 2},
    Row{DType::uint16, "uint16", 2, 2},
    Row{DType::uint32, "uint32", 4, 4},
    Row{DType::uint64, "uint64", 8, 8},
    Row{DType::float8_e4m3fn, "float8_e4m3fn", 1, 1},
    Row{DType::float8_e5m2, "float8_e5m2", 1, 1},
    Row{DType::float8_e4m3fnuz, "float8_e4m3fnuz", 1, 1},
    Row{DType::float8_e5m2fnuz, "float8_e5m2fnuz", 1, 1},
    Row{DType::float8_e8m0fnu, "float8_e8m0fnu", 1, 1},
    Row{DType::float4_e2m1fn_x2, "float4_e2m1fn_x2", 1, 1},
};

constexpr bool rows_follow_the_enum() {
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].dtype != static_cast<DType>(i)) return false;
  }
  return true;
}
static_assert(rows_follow_the_enum());

const Row& row(DType dtype) {
  // One that came in a message may be any number.
  if (static_cast<size_t>(dtype) >= rows.size()) throw Error({.code = Code::corrupt, .what = "an unknown dtype"});
  return rows[static_cast<size_t>(dtype)];
}

}  // namespace

int64_t element_bytes(DType dtype) { return row(dtype).bytes; }
int64_t swap_bytes(DType dtype) { return row(dtype).swap; }
std::string_view name(DType dtype) { return row(dtype).name; }

std::optional<DType> dtype_named(std::string_view name) {
  const auto found = std::ranges::find(rows, name, &Row::name);
  if (found == rows.end()) return std::nullopt;
  return found->dtype;
}

}  // namespace tessera
