// tessera/format/python_long.h: Python's integers of any size, between what a pickle holds and decimal text.
// Errors      Error(invalid_argument) for what is no decimal number, Error(limit) for one of more than 4096 bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tessera::format {

// Decimal conversion is quadratic.
inline constexpr size_t longest_integer_bytes = 4096;

// A decimal number as two's complement, least byte first, and back.
std::vector<std::byte> long_of_decimal(const std::string& decimal);
std::string decimal_of_long(std::span<const std::byte> bytes);

}  // namespace tessera::format
