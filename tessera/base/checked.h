// tessera/base/checked.h: arithmetic on sizes that come from files or users: it throws instead of wrapping.
// Errors      Error(corrupt) by default; pass another code where the number is not from a file.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/base/error.h"

namespace tessera {

inline int64_t checked_add(int64_t a, int64_t b, Code code = Code::corrupt) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) throw Error({.code = code, .what = "a size overflows 64 bits"});
  return sum;
}

inline int64_t checked_multiply(int64_t a, int64_t b, Code code = Code::corrupt) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) throw Error({.code = code, .what = "a size overflows 64 bits"});
  return product;
}

// The number of elements of a tensor of these sizes: 1 without dimensions, 0 if any size is 0.
// A size below 0, or a product of the other sizes that overflows even where one is 0, throws.
inline int64_t checked_volume(std::span<const int64_t> sizes, Code code = Code::corrupt) {
  int64_t volume = 1;
  bool empty = false;
  for (const int64_t size : sizes) {
    if (size < 0) throw Error({.code = code, .what = "a size is negative"});
    if (size == 0) empty = true;
    else volume = checked_multiply(volume, size, code);
  }
  return empty ? 0 : volume;
}

}  // namespace tessera
