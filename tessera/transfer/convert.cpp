#include "tessera/transfer/convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tessera/base/error.h"

namespace tessera {
namespace {

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

// The 16-bit floats, by their layout: bits of exponent and of mantissa.
struct Half {
  static constexpr int exponent_bits = 5, mantissa_bits = 10;
};
struct BrainFloat {
  static constexpr int exponent_bits = 8, mantissa_bits = 7;
};

template <class Layout>
double from_16_bits(uint16_t bits) {
  constexpr int bias = (1 << (Layout::exponent_bits - 1)) - 1;
  const int exponent = (bits >> Layout::mantissa_bits) & ((1 << Layout::exponent_bits) - 1);
  const int mantissa = bits & ((1 << Layout::mantissa_bits) - 1);
  double magnitude;
  if (exponent == (1 << Layout::exponent_bits) - 1) magnitude = mantissa ? std::nan("") : HUGE_VAL;
  else if (exponent == 0) magnitude = std::ldexp(mantissa, 1 - bias - Layout::mantissa_bits);
  else magnitude = std::ldexp(mantissa + (1 << Layout::mantissa_bits), exponent - bias - Layout::mantissa_bits);
  return std::copysign(magnitude, bits & 0x8000 ? -1.0 : 1.0);
}

// Straight from double, so that nothing is rounded twice. nearbyint rounds to nearest even.
template <class Layout>
uint16_t to_16_bits(double value) {
  constexpr int bias = (1 << (Layout::exponent_bits - 1)) - 1;
  constexpr int all_ones = (1 << Layout::exponent_bits) - 1;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return static_cast<uint16_t>(sign | (all_ones << Layout::mantissa_bits) | (1 << (Layout::mantissa_bits - 1)));
  const double magnitude = std::fabs(value);
  int exponent = 1 - bias;  // as the smallest numbers have it
  if (magnitude > 0 && std::isfinite(magnitude)) std::frexp(magnitude, &exponent);  // magnitude in [2^(exponent-1), 2^exponent)
  const int unit = std::max(exponent - 1, 1 - bias) - Layout::mantissa_bits;        // power of two of the last place
  const double steps = std::isfinite(magnitude) ? std::nearbyint(std::ldexp(magnitude, -unit)) : HUGE_VAL;
  if (!(steps < HUGE_VAL)) return static_cast<uint16_t>(sign | (all_ones << Layout::mantissa_bits));
  // Steps that reach the next power of two carry into the exponent by plain addition; from there infinity follows too.
  const auto whole =
      static_cast<int64_t>(steps) + (static_cast<int64_t>(unit + Layout::mantissa_bits - (1 - bias)) << Layout::mantissa_bits);
  return static_cast<uint16_t>(sign | std::min<int64_t>(whole, int64_t{all_ones} << Layout::mantissa_bits));
}

double read_float(DType dtype, const std::byte* at) {
  switch (dtype) {
    case DType::float64: return load<double>(at);
    case DType::float32: return load<float>(at);
    case DType::float16: return from_16_bits<Half>(load<uint16_t>(at));
    default: return from_16_bits<BrainFloat>(load<uint16_t>(at));
  }
}
void write_float(DType dtype, std::byte* at, double value) {
  switch (dtype) {
    case DType::float64: return store(at, value);
    case DType::float32: return store(at, static_cast<float>(value));
    case DType::float16: return store(at, to_16_bits<Half>(value));
    default: return store(at, to_16_bits<BrainFloat>(value));
  }
}

bool is_float(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

// An integer as sign-extended 64 bits; only uint64 needs the sign to be ignored.
uint64_t read_integer(DType dtype, const std::byte* at) {
  switch (dtype) {
    case DType::boolean: return load<uint8_t>(at) ? 1 : 0;
    case DType::uint8: return load<uint8_t>(at);
    case DType::int8: return static_cast<uint64_t>(int64_t{load<int8_t>(at)});
    case DType::uint16: return load<uint16_t>(at);
    case DType::int16: return static_cast<uint64_t>(int64_t{load<int16_t>(at)});
    case DType::uint32: return load<uint32_t>(at);
    case DType::int32: return static_cast<uint64_t>(int64_t{load<int32_t>(at)});
    case DType::uint64:
    case DType::int64: return load<uint64_t>(at);
    default: throw Error({.code = Code::unsupported, .what = "no conversion from " + std::string(name(dtype))});
  }
}

void convert_one(DType from, const std::byte* at, DType to, std::byte* into) {
  if (is_float(from)) return write_float(to, into, read_float(from, at));
  const uint64_t whole = read_integer(from, at);
  if (!is_float(to)) {
    std::memcpy(into, &whole, static_cast<size_t>(element_bytes(to)));  // little-endian: the low bytes come first
  } else if (to == DType::float32) {
    // Not by way of double, which would round large integers twice.
    store(into, from == DType::uint64 ? static_cast<float>(whole) : static_cast<float>(static_cast<int64_t>(whole)));
  } else {
    write_float(to, into, from == DType::uint64 ? static_cast<double>(whole) : static_cast<double>(static_cast<int64_t>(whole)));
  }
}

template <class T>
void negate_each(std::span<std::byte> run, size_t first, size_t stride) {
  for (size_t i = first * sizeof(T); i < run.size(); i += stride * sizeof(T))
    store(run.data() + i, static_cast<T>(-load<T>(run.data() + i)));
}
// Floats that have no C++ type: flip the sign bit, which is the highest.
void flip_sign(std::span<std::byte> run, size_t each_bytes, size_t first, size_t stride) {
  for (size_t i = (first + 1) * each_bytes - 1; i < run.size(); i += stride * each_bytes) run[i] ^= std::byte{0x80};
}

}  // namespace

void convert(const View& from, const View& to) {
  if (from.dtype == to.dtype) return copy(from, to);
  const int64_t from_bytes = element_bytes(from.dtype);
  const int64_t to_bytes = element_bytes(to.dtype);
  for_each_run(from.sizes, from.strides, to.strides, [&](int64_t a, int64_t b, int64_t count) {
    for (int64_t i = 0; i < count; ++i) convert_one(from.dtype, from.data + (a + i) * from_bytes, to.dtype, to.data + (b + i) * to_bytes);
  });
}

void swap_bytes_of(const View& view) {
  const auto each = static_cast<size_t>(swap_bytes(view.dtype));
  for_each_run(view, [&](std::span<std::byte> run) {
    for (size_t i = 0; i < run.size(); i += each)
      std::reverse(run.begin() + static_cast<std::ptrdiff_t>(i), run.begin() + static_cast<std::ptrdiff_t>(i + each));
  });
}

void conjugate(const View& view) {
  const auto half = static_cast<size_t>(element_bytes(view.dtype)) / 2;
  for_each_run(view, [&](std::span<std::byte> run) { flip_sign(run, half, 1, 2); });
}

void negate(const View& view) {
  const auto each = static_cast<size_t>(element_bytes(view.dtype));
  for_each_run(view, [&](std::span<std::byte> run) {
    switch (view.dtype) {
      case DType::int64: return negate_each<int64_t>(run, 0, 1);
      case DType::int32: return negate_each<int32_t>(run, 0, 1);
      case DType::int16: return negate_each<int16_t>(run, 0, 1);
      case DType::int8: return negate_each<int8_t>(run, 0, 1);
      case DType::complex32:
      case DType::complex64:
      case DType::complex128: return flip_sign(run, each / 2, 0, 1);
      case DType::float64:
      case DType::float32:
      case DType::float16:
      case DType::bfloat16: return flip_sign(run, each, 0, 1);
      default: throw Error({.code = Code::unsupported, .what = "a negated view of " + std::string(name(view.dtype))});
    }
  });
}

}  // namespace tessera
