// tessera/format/pickle.h: Python's pickles as data. The machine builds a graph of plain nodes and runs nothing: a class or a function
// is a name, a call is a node that says what would be called. Who reads the graph decides which names it knows.
// Source      CPython's pickletools for the opcodes; those that torch.save and torch.distributed.checkpoint write, and no others.
// Checks      One object, then STOP at the last byte; every length against what is left; strings are UTF-8 (lone surrogates
//             allowed, as Python writes them); no node contains itself; depth and size, shared parts counted each time, are limited.
// Memory      Text is not copied: nodes borrow the pickle's bytes, and live as long as their Pickle.
// Errors      Error(corrupt), Error(unsupported) for an opcode outside the list, Error(limit); each with the byte's offset.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>

#include "tessera/base/bytes.h"

namespace tessera::format {

struct PickleLimits {
  // Shared ones counted each time they are used, and one more for every 32 bytes of text. Whatever is set here, no more than a million
  // and 16 for each byte of the pickle, so that a reader of the graph does work in proportion to the file.
  int64_t nodes = 200'000'000;
  int depth = 100;              // no more than 1,000, whatever is set here
  bool persistent_ids = false;  // as torch.save refers to storages
  bool more = false;            // bytes may follow the pickle: size_bytes() says where it ends
  bool cycles = false;  // an object may contain itself, as those of a user's classes do; who reads the graph must ask is_cyclic()
};

// A value, of 32 bytes: a file of a million records has some ten million of these.
class Node {
 public:
  enum class Kind : uint8_t { none, boolean, integer, big_integer, real, text, bytes, global, tuple, list, dict, call, object, persistent };
  using Items = std::span<const Node* const>;

  Kind kind = Kind::none;

  bool boolean() const { return kind == Kind::boolean && is_.integer != 0; }
  int64_t integer() const { return kind == Kind::integer ? is_.integer : 0; }
  double real() const { return kind == Kind::real ? is_.real : 0; }
  // Of text and bytes; a big integer in decimal. Empty for all others, as what follows is for kinds that have none.
  std::string_view text() const { return is_text() ? std::string_view(is_.text, count_) : std::string_view(); }
  // Tuple, list; dict: key, value, key, value…; call and object: the arguments; persistent: its id.
  Items items() const { return own_children(); }

  // Call, object: what makes it, a global or itself made.
  bool is_made() const { return kind == Kind::call || kind == Kind::object; }
  const Node& callee() const { return *children()[0]; }
  // Call: what SETITEMS added to the result, as in a dict.
  Items set() const { return set_children(); }
  // Call, object: what BUILD gave it; else null.
  const Node* state() const { return state_child(); }
  // Call, object: something else was done to the result, which is not kept: no plain value is like that.
  bool altered() const { return altered_; }

  // Of a global: "torch" and "Size".
  std::string_view module() const { return kind == Kind::global ? is_.near[0]->text() : std::string_view(); }
  std::string_view name() const { return kind == Kind::global ? is_.near[1]->text() : std::string_view(); }
  // True for the global of that spelling: "torch Size".
  bool is_global(std::string_view spelling) const;
  // The spelling of a global: for messages.
  std::string global() const { return std::string(module()) + " " + std::string(name()); }

 private:
  friend class PickleMachine;
  using Children = std::span<Node* const>;
  bool is_text() const { return kind == Kind::text || kind == Kind::bytes || kind == Kind::big_integer; }
  // What is made has its callee before its arguments, and behind them, in the order in which they came, its state and a dict of what was
  // set.
  Children children() const { return {count_ <= 2 ? is_.near : is_.far.items, count_}; }
  Children own_children() const {
    if (kind < Kind::tuple) return {};
    return is_made() ? children().subspan(1, count_ - 1u - has_state_ - has_set_) : children();
  }
  Node* set_child() const { return has_set_ ? children()[count_ - 1u - (has_state_ && set_first_)] : nullptr; }
  Node* state_child() const { return has_state_ ? children()[count_ - 1u - (has_set_ && !set_first_)] : nullptr; }
  Children set_children() const { return has_set_ ? set_child()->own_children() : Children(); }

  bool altered_ : 1 = false;
  bool has_state_ : 1 = false;
  bool has_set_ : 1 = false;
  bool set_first_ : 1 = false;
  uint16_t height_ = 0;  // levels from here down, once measured
  uint32_t count_ = 0;   // bytes of text, or children
  union {
    Node* near[2];  // up to two children
    int64_t integer;
    double real;
    const char* text;
    struct {
      Node** items;
      size_t capacity;
    } far;  // more
  } is_ = {};
  int64_t weight_ = 0;  // nodes from here down, once measured; the depth while being measured; 0 before
};
static_assert(sizeof(Node) == 32);

class Pickle {
 public:
  // `file` and `origin_bytes` say in errors where the first byte is. The bytes must outlive the Pickle.
  explicit Pickle(std::span<const std::byte> bytes, const PickleLimits& limits = {}, std::string file = {}, int64_t origin_bytes = 0);
  // The same of bytes that it keeps.
  explicit Pickle(Bytes&& bytes, const PickleLimits& limits = {}, std::string file = {}, int64_t origin_bytes = 0);
  const Node& root() const { return *root_; }
  // The string that a tessera writer puts first and that pickle.load drops; empty if there is none.
  std::string_view marker() const { return marker_; }
  bool is_cyclic() const { return is_cyclic_; }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  friend class PickleMachine;
  Bytes kept_;
  std::unique_ptr<std::pmr::monotonic_buffer_resource> memory_;  // of the nodes
  Node* root_ = nullptr;
  std::string_view marker_;
  bool is_cyclic_ = false;
  int64_t size_bytes_ = 0;
};

}  // namespace tessera::format
