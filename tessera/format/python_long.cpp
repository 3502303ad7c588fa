#include "tessera/format/python_long.h"

#include <algorithm>
#include <cstdint>

#include "tessera/base/error.h"

namespace tessera::format {

namespace {

// Two's complement, least byte first: its own inverse.
void negate(std::vector<uint8_t>& magnitude) {
  unsigned carry = 1;
  for (uint8_t& byte : magnitude) {
    carry += static_cast<uint8_t>(~byte);
    byte = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
}

}  // namespace

std::vector<std::byte> long_of_decimal(const std::string& decimal) {
  const bool negative = decimal.starts_with('-');
  const bool number = decimal.size() > negative && decimal.find_first_not_of("0123456789", negative) == std::string::npos;
  if (!number) throw Error({.code = Code::invalid_argument, .what = "'" + decimal + "' is no decimal number"});
  const auto too_long = [] { return Error({.code = Code::limit, .what = "an integer of too many digits cannot be written"}); };
  if (decimal.size() > longest_integer_bytes * 5 / 2) throw too_long();  // a byte is some 2.4 digits
  std::vector<uint8_t> magnitude;
  for (size_t i = negative; i < decimal.size(); ++i) {
    unsigned carry = static_cast<unsigned>(decimal[i] - '0');
    for (uint8_t& byte : magnitude) {
      carry += byte * 10u;
      byte = static_cast<uint8_t>(carry);
      carry >>= 8;
    }
    if (carry) magnitude.push_back(static_cast<uint8_t>(carry));
  }
  magnitude.push_back(0);  // room for the sign
  if (negative) negate(magnitude);
  // Python drops a last byte that only repeats the sign.
  while (magnitude.size() > 1 && magnitude.back() == (magnitude[magnitude.size() - 2] & 0x80 ? 0xff : 0x00)) magnitude.pop_back();
  if (magnitude.size() > longest_integer_bytes) throw too_long();
  std::vector<std::byte> bytes;
  for (const uint8_t byte : magnitude) bytes.push_back(std::byte{byte});
  return bytes;
}

std::string decimal_of_long(std::span<const std::byte> bytes) {
  std::vector<uint8_t> magnitude;
  for (const std::byte byte : bytes) magnitude.push_back(static_cast<uint8_t>(byte));
  const bool negative = !magnitude.empty() && magnitude.back() & 0x80;
  if (negative) negate(magnitude);
  std::string digits;
  while (!magnitude.empty()) {
    unsigned remainder = 0;
    for (size_t i = magnitude.size(); i > 0; --i) {
      remainder = remainder * 256 + magnitude[i - 1];
      magnitude[i - 1] = static_cast<uint8_t>(remainder / 10);
      remainder %= 10;
    }
    digits += static_cast<char>('0' + remainder);
    while (!magnitude.empty() && magnitude.back() == 0) magnitude.pop_back();
  }
  if (digits.empty()) return "0";
  if (negative) digits += '-';
  std::ranges::reverse(digits);
  return digits;
}

}  // namespace tessera::format
