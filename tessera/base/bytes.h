// tessera/base/bytes.h: bytes in and out of buffers: little-endian, bounds-checked on the way in.
// It is the encoding of our own short-lived messages between ranks; file formats have their own rooms.
// Errors      ByteReader throws Error(corrupt) rather than read past the end or allocate from an unchecked count.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {

static_assert(std::endian::native == std::endian::little, "every format here is little-endian and is read in place");

using Bytes = std::vector<std::byte>;

inline std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
inline std::string_view as_text(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class ByteWriter {
 public:
  template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void put(T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof value);
  }
  void put_raw(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // Length first, as u64.
  void put_bytes(std::span<const std::byte> bytes) {
    put<uint64_t>(bytes.size());
    put_raw(bytes);
  }
  void put_string(std::string_view text) { put_bytes(as_bytes(text)); }
  template <class T>
  void put_list(std::span<const T> values) {
    put<uint64_t>(values.size());
    for (const T value : values) put(value);
  }
  size_t size() const { return bytes_.size(); }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  T get() {
    T value;
    const auto bytes = get_raw(sizeof value);
    if constexpr (std::is_same_v<T, bool>) {
      // A bool of any other byte is neither true nor false to the compiler.
      if (bytes[0] > std::byte{1}) throw Error({.code = Code::corrupt, .what = "a message holds a bool that is neither 0 nor 1"});
    }
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::span<const std::byte> get_raw(uint64_t count) {
    if (count > left_.size()) throw Error({.code = Code::corrupt, .what = "a message ends early"});
    const auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  std::span<const std::byte> get_bytes() { return get_raw(get<uint64_t>()); }
  std::string get_string() { return std::string(as_text(get_bytes())); }
  // A count of things that take at least `each_bytes` of what is left, so that it may size an allocation.
  size_t get_count(size_t each_bytes) {
    const auto count = get<uint64_t>();
    if (count > left_.size() / std::max<size_t>(1, each_bytes))
      throw Error({.code = Code::corrupt, .what = "a message counts more than it holds"});
    return count;
  }
  template <class T>
  std::vector<T> get_list() {
    std::vector<T> values(get_count(sizeof(T)));
    for (T& value : values) value = get<T>();
    return values;
  }
  bool empty() const { return left_.empty(); }
  size_t left() const { return left_.size(); }

 private:
  std::span<const std::byte> left_;
};

}  // namespace tessera
