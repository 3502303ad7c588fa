// tessera/layout/value.h: a leaf of a state dict that is not a tensor: Python's plain values, as C++ values.
// What cannot be a plain value stays opaque: its bytes pass through unchanged and nothing in them is ever run.
// Source      The value types that torch.save writes for a leaf of a distributed checkpoint, torch 2.0 to 2.13.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"

namespace tessera {

struct Value {
  struct None {
    bool operator==(const None&) const = default;
  };
  // An int outside int64_t, in decimal.
  struct BigInt {
    std::string decimal;
    bool operator==(const BigInt&) const = default;
  };
  enum class BytesKind : uint8_t { bytes, bytearray, bytes_io };
  struct ByteString {
    std::vector<std::byte> data;
    BytesKind kind = BytesKind::bytes;
    bool operator==(const ByteString&) const = default;
  };
  struct Complex {
    double re = 0;
    double im = 0;
    bool operator==(const Complex&) const = default;
  };
  enum class SequenceKind : uint8_t { list, tuple, set, frozenset };
  struct Sequence {
    std::vector<Value> items;
    SequenceKind kind = SequenceKind::list;
    bool operator==(const Sequence&) const = default;
  };
  struct Mapping {
    std::vector<std::pair<Value, Value>> items;  // in insertion order
    bool ordered = false;                        // an OrderedDict
    bool operator==(const Mapping& other) const;  // not defaulted here, where a Value is not complete yet
  };
  // torch.dtype by name, torch.Size, torch.device as "cpu" or "cuda:0".
  struct TorchDType {
    std::string name;
    bool operator==(const TorchDType&) const = default;
  };
  struct TorchSize {
    Sizes sizes;
    bool operator==(const TorchSize&) const = default;
  };
  struct TorchDevice {
    std::string name;
    bool operator==(const TorchDevice&) const = default;
  };
  // A tensor inside an object: row-major bytes.
  struct Tensor {
    DType dtype = DType::float32;
    Sizes sizes;
    std::vector<std::byte> data;
    int64_t place = -1;  // from 0 on: `data` is empty, and whoever made the value knows by this number where the bytes are
    bool operator==(const Tensor&) const = default;
  };
  // A value that we do not decode: the class that it names ("module name"), and the whole torch.save archive of the leaf.
  struct Opaque {
    std::string global;
    std::vector<std::byte> archive;
    bool operator==(const Opaque&) const = default;
  };

  using Variant = std::variant<None, bool, int64_t, BigInt, double, std::string, ByteString, Complex, Sequence, Mapping, TorchDType,
                               TorchSize, TorchDevice, Tensor, Opaque>;
  Variant is;

  Value() = default;
  Value(bool v) : is(v) {}
  Value(std::integral auto v) : is(static_cast<int64_t>(v)) {}
  Value(double v) : is(v) {}
  Value(std::string v) : is(std::move(v)) {}
  Value(const char* v) : is(std::string(v)) {}
  Value(std::string_view v) : is(std::string(v)) {}
  template <class T>
    requires(!std::convertible_to<T, std::string_view> && !std::is_arithmetic_v<T> && std::constructible_from<Variant, T>)
  Value(T v) : is(std::move(v)) {}

  static Value list(std::vector<Value> items) { return Sequence{std::move(items), SequenceKind::list}; }
  static Value tuple(std::vector<Value> items) { return Sequence{std::move(items), SequenceKind::tuple}; }
  static Value bytes(std::vector<std::byte> data) { return ByteString{std::move(data), BytesKind::bytes}; }

  template <class T>
  const T* as() const {
    return std::get_if<T>(&is);
  }
  // Same type and same content. Floats compare by bits, so that nan equals itself and -0.0 differs from 0.0.
  bool operator==(const Value& other) const;
};

// "None", "5", "[1, 2.5, 3.0]", "'text'", "bytes (16)": short, for people. Not a serialization.
std::string to_string(const Value& value);

}  // namespace tessera
