// tessera/format/pickle.h: Python's pickles as data. The machine builds a graph of plain nodes and runs nothing: a class or a function
// is a name, a call is a node that says what would be called. Who reads the graph decides which names it knows.
// Source      CPython's pickletools for the opcodes; those that torch.save and torch.distributed.checkpoint write, and no others.
// Checks      One object, then STOP at the last byte; every length against what is left; strings are UTF-8 (lone surrogates
//             allowed, as Python writes them); no node contains itself; depth and size, shared parts counted each time, are limited.
// Errors      Error(corrupt), Error(unsupported) for an opcode outside the list, Error(limit); each with the byte's offset.
// Cost        One pass. Nodes take 16 to 56 bytes in blocks that are freed at once; text stays where it was read.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/bytes.h"

namespace tessera::format {

struct PickleLimits {
  // Values of the graph, those used many times counted each time, and one more for every 32 bytes of text. Whatever is set here, no
  // more than a million and 16 for each byte of the pickle: so a reader of the graph does work in proportion to the file.
  int64_t nodes = 200'000'000;
  int depth = 100;
  bool persistent_ids = false;  // as in torch.save's references to storages
};

// A value of the graph. Never changes once the pickle is read; two places may share one. Each accessor is for the kinds that it names.
class Node {
 public:
  enum class Kind : uint8_t { none, boolean, integer, big_integer, real, text, bytes, tuple, list, dict, global, persistent, call, object };
  using Items = std::span<const Node* const>;

  Kind kind() const { return kind_; }
  bool boolean() const { return integer_ != 0; }
  int64_t integer() const { return integer_; }
  double real() const { return std::bit_cast<double>(integer_); }
  // text and bytes as they are, a big_integer in decimal, a global as "module name".
  std::string_view text() const { return {chars_, count_}; }
  // tuple and list; dict as key, value, key, value, …; persistent: the one id. Of a call or object: its arguments.
  Items items() const { return {items_, count_}; }
  // The rest is for a call f(arguments…) or an object, cls.__new__(cls, arguments…). What is called, if it is a global, else "".
  std::string_view callee() const;
  // What was then set on the result, appended to it, and given to its __setstate__ (null if nothing was).
  Items set_items() const;
  Items appended() const;
  const Node* state() const;
  // True if the node is the call or object of this name.
  bool makes(std::string_view global) const { return (kind_ == Kind::call || kind_ == Kind::object) && callee() == global; }
  // The first global that stands in the way of who cannot make this call or object: for messages.
  std::string_view made_by() const;

 protected:
  friend class PickleMachine;
  Kind kind_ = Kind::none;
  bool measuring_ = false;
  uint16_t height_ = 0;
  uint32_t count_ = 0;
  union {
    int64_t integer_ = 0;
    const char* chars_;
    const Node** items_;
  };
};

// The memory of a graph: blocks, freed together.
class Arena {
 public:
  void* take(size_t bytes);

 private:
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  size_t next_block_bytes_ = 1024;
  std::byte* free_ = nullptr;
  size_t free_bytes_ = 0;
};

class Pickle {
 public:
  // Keeps the bytes. `file` and `origin_bytes` say in errors where the first of them is.
  explicit Pickle(Bytes bytes, const PickleLimits& limits = {}, std::string file = {}, int64_t origin_bytes = 0);
  // Borrows the bytes: they must outlive the pickle.
  explicit Pickle(std::span<const std::byte> bytes, const PickleLimits& limits = {}, std::string file = {});
  const Node& root() const { return *root_; }
  // The string that a tessera writer puts first and that pickle.load drops; empty if there is none.
  const std::string& marker() const { return marker_; }

 private:
  friend class PickleMachine;
  Bytes bytes_;
  Arena arena_;
  const Node* root_ = nullptr;
  std::string marker_;
};

// Writes protocol 2, which every reader of torch.save knows, weights_only ones included.
class PickleWriter {
 public:
  PickleWriter();
  void marker(std::string_view text);  // BINUNICODE, POP
  void none();
  void boolean(bool value);
  void integer(int64_t value);
  void big_integer(std::string_view decimal);  // Error(invalid_argument) if it is no number, Error(limit) if we could not read it back
  void real(double value);
  void text(std::string_view value);  // Error(invalid_argument) if it is not UTF-8, Error(limit) from 4 GiB on
  // "module name"; the second time by reference.
  void global(std::string_view name);
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
  void memo(int short_code, int long_code, uint32_t index);
  ByteWriter out_;
  std::vector<std::string> globals_;  // by memo index; few, searched from the front
};

// A decimal number as two's complement, least byte first, and back.
std::vector<std::byte> long_of_decimal(std::string_view decimal);
std::string decimal_of_long(std::span<const std::byte> bytes);

}  // namespace tessera::format
