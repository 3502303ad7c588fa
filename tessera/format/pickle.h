// tessera/format/pickle.h: Python's pickles as data. The machine builds a graph of plain nodes and runs nothing: a class or a function
// is a name, a call is a node that says what would be called. Who reads the graph decides which names it knows.
// Source      CPython's pickletools for the opcodes; those that torch.save and torch.distributed.checkpoint write, and no others.
// Checks      One object, then STOP at the last byte; every length against what is left; strings are UTF-8 (lone surrogates
//             allowed, as Python writes them); no node contains itself; depth and size, shared parts counted each time, are limited.
// Errors      Error(corrupt), Error(unsupported) for an opcode outside the list, Error(limit); each with the byte's offset.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"

namespace tessera::format {

struct PickleLimits {
  // Shared ones counted each time they are used, and one more for every 32 bytes of text. Whatever is set here, no more than a million
  // and 16 for each byte of the pickle, so that a reader of the graph does work in proportion to the file.
  int64_t nodes = 200'000'000;
  int depth = 100;
  bool persistent_ids = false;  // as torch.save refers to storages
  bool more = false;            // bytes may follow the pickle: size_bytes() says where it ends
  bool cycles = false;  // an object may contain itself, as those of a user's classes do; who reads the graph must ask is_cyclic()
};

struct Node {
  enum class Kind : uint8_t { none, boolean, integer, big_integer, real, text, bytes, tuple, list, dict, global, call, object, persistent };
  Kind kind = Kind::none;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0;
  std::string text;  // text; bytes; a big integer in decimal; a global as "module name"
  std::vector<const Node*> items;  // tuple, list; dict: key, value, key, value…; call and object: callee, arguments; persistent: its id
  std::vector<const Node*> set;  // call: what SETITEMS added to the result, as in a dict
  const Node* state = nullptr;  // call, object: what BUILD gave it
  bool altered = false;  // call, object: something else was done to the result, which is not kept: no plain value is like that
};

class Pickle {
 public:
  // `file` and `origin_bytes` say in errors where the first byte is.
  explicit Pickle(std::span<const std::byte> bytes, const PickleLimits& limits = {}, std::string file = {}, int64_t origin_bytes = 0);
  const Node& root() const { return *root_; }
  // The string that a tessera writer puts first and that pickle.load drops; empty if there is none.
  const std::string& marker() const { return marker_; }
  bool is_cyclic() const { return is_cyclic_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  friend class PickleMachine;
  std::deque<Node> nodes_;
  const Node* root_ = nullptr;
  std::string marker_;
  bool is_cyclic_ = false;
  int64_t size_bytes_ = 0;
};

}  // namespace tessera::format
