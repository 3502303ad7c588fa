#include "tessera/format/pickle_writer.h"

#include <bit>
#include <limits>

#include "tessera/format/python_long.h"
#include "tessera/format/utf8.h"

namespace tessera::format {

PickleWriter::PickleWriter() {
  op(0x80);
  op(2);
}

void PickleWriter::marker(std::string_view value) {
  text(value);
  op('0');
}
void PickleWriter::none() { op('N'); }
void PickleWriter::boolean(bool value) { op(value ? 0x88 : 0x89); }

void PickleWriter::integer(int64_t value) {
  if (value >= 0 && value <= 0xff) {
    op('K');
    out_.put(static_cast<uint8_t>(value));
  } else if (value >= 0 && value <= 0xffff) {
    op('M');
    out_.put(static_cast<uint16_t>(value));
  } else if (value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max()) {
    op('J');
    out_.put(static_cast<int32_t>(value));
  } else {
    op(0x8a);
    op(8);
    out_.put(value);
  }
}

void PickleWriter::big_integer(const std::string& decimal) {
  const auto bytes = long_of_decimal(decimal);
  if (bytes.size() <= 0xff) {
    op(0x8a);
    out_.put(static_cast<uint8_t>(bytes.size()));
  } else {
    op(0x8b);
    out_.put(static_cast<uint32_t>(bytes.size()));
  }
  out_.put_raw(bytes);
}

void PickleWriter::real(double value) {
  op('G');
  out_.put(__builtin_bswap64(std::bit_cast<uint64_t>(value)));
}

void PickleWriter::text(std::string_view value) {
  if (value.size() > std::numeric_limits<uint32_t>::max())
    throw Error({.code = Code::limit, .what = "a string of 4 GiB or more cannot be written"});
  if (!is_text(value)) throw Error({.code = Code::invalid_argument, .what = "a string that is not UTF-8 cannot be written"});
  op('X');
  out_.put(static_cast<uint32_t>(value.size()));
  out_.put_raw(as_bytes(value));
}

void PickleWriter::global(const std::string& name) {
  for (const auto& [known, index] : globals_) {
    if (known != name) continue;
    op(index <= 0xff ? 'h' : 'j');
    if (index <= 0xff) out_.put(static_cast<uint8_t>(index));
    else out_.put(index);
    return;
  }
  const size_t space = name.rfind(' ');
  op('c');
  out_.put_raw(as_bytes(name.substr(0, space) + "\n" + name.substr(space + 1) + "\n"));
  const auto index = static_cast<uint32_t>(globals_.size());
  op(index <= 0xff ? 'q' : 'r');
  if (index <= 0xff) out_.put(static_cast<uint8_t>(index));
  else out_.put(index);
  globals_.emplace_back(name, index);
}

void PickleWriter::integers(std::span<const int64_t> values) {
  if (values.empty()) return empty_tuple();
  if (values.size() > 3) mark();
  for (const int64_t value : values) integer(value);
  op(values.size() > 3 ? 't' : 0x84 + static_cast<int>(values.size()));
}

Bytes PickleWriter::finish() {
  op('.');
  return out_.take();
}

}  // namespace tessera::format
