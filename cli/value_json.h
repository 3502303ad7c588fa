// cli/value_json.h: an object of a checkpoint as typed JSON, so that nothing of its Python type is lost:
// {"t": "int", "v": "5"}, {"t": "float", "v": "0.1", "hex": "0x1.999999999999ap-4"}, {"t": "tuple", "v": […]}, …;
// what we do not decode is {"t": "opaque", "global": "module name"}.
#pragma once

#include <string>

#include "tessera/layout/value.h"

namespace tessera::cli {

std::string value_json(const Value& value);
// "[2, 3]".
std::string sizes_json(std::span<const int64_t> sizes);
// Lower-case, two digits a byte.
std::string hex(std::span<const std::byte> bytes);
// As Python's repr: the shortest digits that read back, "1e-08", "1.0", "inf".
std::string float_repr(double value);
// As Python's float.hex().
std::string float_hex(double value);

}  // namespace tessera::cli
