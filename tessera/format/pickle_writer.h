// tessera/format/pickle_writer.h: Python's pickles, opcode by opcode. What pickle.h reads, this writes.
// Source      CPython's pickletools for the opcodes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/base/bytes.h"

namespace tessera::format {

// A global that one writer writes often: it remembers the number under which the pickle knows it.
class PickleGlobal {
 public:
  explicit PickleGlobal(std::string name) : name_(std::move(name)) {}

 private:
  friend class PickleWriter;
  std::string name_;
  std::optional<uint32_t> index_;
};

// Writes protocol 2, which every reader of torch.save knows, weights_only ones included.
// Errors  Error(invalid_argument) or Error(limit) for what neither Python nor we could read back.
class PickleWriter {
 public:
  PickleWriter();
  // Room for so many bytes, where they can be foreseen.
  void reserve(size_t bytes) { out_.reserve(bytes); }
  void marker(std::string_view text);  // BINUNICODE, POP
  void none() { op('N'); }
  void boolean(bool value) { op(value ? 0x88 : 0x89); }
  void integer(int64_t value) {
    if (value >= 0 && value <= 0xff) put('K', static_cast<uint8_t>(value));
    else if (value >= 0 && value <= 0xffff) put('M', static_cast<uint16_t>(value));
    else if (value == static_cast<int32_t>(value)) put('J', static_cast<int32_t>(value));
    else put_long(value);
  }
  void big_integer(const std::string& decimal);
  void real(double value);
  void text(std::string_view value);  // UTF-8, below 4 GiB
  // "module name"; the second time by reference.
  void global(const std::string& name) { index_of(name); }
  void global(PickleGlobal& name) {
    if (name.index_) refer(*name.index_);
    else name.index_ = index_of(name.name_);
  }
  void mark() { op('('); }
  void tuple() { op('t'); }  // of what stands above the mark
  void empty_tuple() { op(')'); }
  void tuple1() { op(0x85); }
  void tuple2() { op(0x86); }
  void tuple3() { op(0x87); }
  void empty_list() { op(']'); }
  void appends() { op('e'); }  // what stands above the mark, to the list below it
  void empty_dict() { op('}'); }
  void set_items() { op('u'); }
  void reduce() { op('R'); }
  void new_object() { op(0x81); }
  void build() { op('b'); }
  void persistent() { op('Q'); }
  // A tuple of ints, in the shortest form.
  void integers(std::span<const int64_t> values) {
    if (values.empty()) return empty_tuple();
    if (values.size() > 3) mark();
    for (const int64_t value : values) integer(value);
    op(values.size() > 3 ? 't' : 0x84 + static_cast<int>(values.size()));
  }
  Bytes finish();

 private:
  void op(int code) {
    if (used_ == block_.size()) flush();
    block_[used_++] = static_cast<std::byte>(code);
  }
  template <class Number>
  void put(int code, Number value) {
    if (block_.size() - used_ < 1 + sizeof value) flush();
    block_[used_] = static_cast<std::byte>(code);
    std::memcpy(block_.data() + used_ + 1, &value, sizeof value);
    used_ += 1 + sizeof value;
  }
  void put_raw(std::span<const std::byte> bytes) {
    if (block_.size() - used_ < bytes.size()) return put_large(bytes);
    std::memcpy(block_.data() + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }
  void refer(uint32_t index) {
    if (index <= 0xff) put('h', static_cast<uint8_t>(index));
    else put('j', index);
  }
  void put_long(int64_t value);
  void put_large(std::span<const std::byte> bytes);
  // Writes the global, and says under which number.
  uint32_t index_of(const std::string& name);
  void flush();

  Bytes out_;
  std::array<std::byte, 4096> block_;  // what comes next: a pickle is millions of opcodes of a byte or two
  size_t used_ = 0;
  std::vector<std::string> globals_;  // by number; few: searched from the front
};

}  // namespace tessera::format
