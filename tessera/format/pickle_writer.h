// tessera/format/pickle_writer.h: Python's pickles, opcode by opcode. What pickle.h reads, this writes.
// Source      CPython's pickletools for the opcodes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/base/bytes.h"

namespace tessera::format {

// Writes protocol 2, which every reader of torch.save knows, weights_only ones included.
// Errors  Error(invalid_argument) or Error(limit) for what neither Python nor we could read back.
class PickleWriter {
 public:
  PickleWriter();
  void marker(std::string_view text);  // BINUNICODE, POP
  void none();
  void boolean(bool value);
  void integer(int64_t value);
  void big_integer(const std::string& decimal);
  void real(double value);
  void text(std::string_view value);  // UTF-8, below 4 GiB
  // "module name"; the second time by reference.
  void global(const std::string& name);
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
  void integers(std::span<const int64_t> values);
  Bytes finish();

 private:
  void op(int code) { out_.put(static_cast<uint8_t>(code)); }
  ByteWriter out_;
  std::vector<std::pair<std::string, uint32_t>> globals_;  // few: searched from the front
};

}  // namespace tessera::format
