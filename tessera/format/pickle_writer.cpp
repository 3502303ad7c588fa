#include "tessera/format/pickle_writer.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "tessera/format/python_long.h"
#include "tessera/format/utf8.h"

namespace tessera::format {

PickleWriter::PickleWriter() { put(0x80, uint8_t{2}); }

void PickleWriter::marker(std::string_view value) {
  text(value);
  op('0');
}

void PickleWriter::put_long(int64_t value) {
  put(0x8a, uint8_t{8});
  put_raw(std::as_bytes(std::span(&value, 1)));
}

void PickleWriter::big_integer(const std::string& decimal) {
  const auto bytes = long_of_decimal(decimal);
  if (bytes.size() <= 0xff) put(0x8a, static_cast<uint8_t>(bytes.size()));
  else put(0x8b, static_cast<uint32_t>(bytes.size()));
  put_raw(bytes);
}

void PickleWriter::real(double value) { put('G', __builtin_bswap64(std::bit_cast<uint64_t>(value))); }

void PickleWriter::text(std::string_view value) {
  if (value.size() > std::numeric_limits<uint32_t>::max())
    throw Error({.code = Code::limit, .what = "a string of 4 GiB or more cannot be written"});
  if (!is_text(value)) throw Error({.code = Code::invalid_argument, .what = "a string that is not UTF-8 cannot be written"});
  put('X', static_cast<uint32_t>(value.size()));
  put_raw(as_bytes(value));
}

uint32_t PickleWriter::index_of(const std::string& name) {
  const auto known = std::ranges::find(globals_, name);
  const auto index = static_cast<uint32_t>(known - globals_.begin());
  if (known != globals_.end()) {
    refer(index);
    return index;
  }
  const size_t space = name.rfind(' ');
  op('c');
  put_raw(as_bytes(name.substr(0, space) + "\n" + name.substr(space + 1) + "\n"));
  if (index <= 0xff) put('q', static_cast<uint8_t>(index));
  else put('r', index);
  globals_.push_back(name);
  return index;
}

void PickleWriter::put_large(std::span<const std::byte> bytes) {
  flush();
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void PickleWriter::flush() {
  out_.insert(out_.end(), block_.begin(), block_.begin() + static_cast<std::ptrdiff_t>(used_));
  used_ = 0;
}

Bytes PickleWriter::finish() {
  op('.');
  flush();
  return std::move(out_);
}

}  // namespace tessera::format
