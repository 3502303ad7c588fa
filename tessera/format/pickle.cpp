#include "tessera/format/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "tessera/base/large_pages.h"
#include "tessera/format/python_long.h"
#include "tessera/format/utf8.h"

namespace tessera::format {
namespace {

constexpr int64_t nodes_at_least = 1'000'000;   // what any pickle may stand for, and
constexpr int64_t nodes_per_byte = 16;          // what each byte of it adds: far above stock's sharing, far below a bomb
constexpr int64_t text_bytes_per_node = 32;
constexpr int deepest = 1000;  // the graph is walked by recursion
constexpr size_t most_children = std::numeric_limits<uint32_t>::max();
constexpr size_t least_arena_bytes = 1024;
constexpr size_t most_first_arena_bytes = size_t{16} << 20;

// What the memo holds, by index. Picklers count up from 0, which makes a list of it; whatever else a file says costs what it holds.
class Memo {
 public:
  void set(uint32_t index, Node* node) {
    if (index < in_order_.size()) {
      in_order_[index] = node;
    } else if (index == in_order_.size()) {
      in_order_.push_back(node);
      if (!others_.empty()) others_.erase(index);
    } else {
      others_[index] = node;
    }
  }
  // Null where nothing was set.
  Node* find(uint32_t index) const {
    if (index < in_order_.size()) return in_order_[index];
    const auto found = others_.find(index);
    return found == others_.end() ? nullptr : found->second;
  }
  size_t size() const { return in_order_.size() + others_.size(); }

 private:
  std::vector<Node*> in_order_;
  std::map<uint32_t, Node*> others_;  // whose numbers a file chooses: no hash to be flooded
};

}  // namespace

bool Node::is_global(std::string_view spelling) const {
  const size_t space = module().size();
  return kind == Kind::global && spelling.size() == space + 1 + name().size() && spelling[space] == ' ' && spelling.starts_with(module()) &&
         spelling.ends_with(name());
}

// The stack machine. Nodes and their lists of children lie in the Pickle's arena and stay where they are.
class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, std::span<const std::byte> bytes, const PickleLimits& limits, std::string file, int64_t origin_bytes)
      : pickle_(pickle), bytes_(bytes), limits_(limits), file_(std::move(file)), origin_(origin_bytes) {
    limits_.nodes = std::min(limits.nodes, nodes_at_least + nodes_per_byte * static_cast<int64_t>(bytes.size()));
    limits_.depth = std::min(limits.depth, deepest);
    pickle.memory_ = std::make_unique<std::pmr::monotonic_buffer_resource>(
        std::clamp(bytes.size() * 8, least_arena_bytes, most_first_arena_bytes), &large_pages());
  }

  void run() {
    if (peek() == 0x80) proto();
    read_marker();
    while (!stopped_) step();
    if (at_ != bytes_.size() && !limits_.more) fail("bytes after the end of the pickle");
    pickle_.size_bytes_ = static_cast<int64_t>(at_);
    if (stack_.size() != 1 || !marks_.empty()) fail("a pickle that ends with more or less than one object");
    pickle_.root_ = stack_.back();
    check_shape();
  }

 private:
  using Kind = Node::Kind;

  [[noreturn]] void fail(std::string what, Code code = Code::corrupt) const {
    throw Error({.code = code, .what = std::move(what), .file = file_, .offset_bytes = origin_ + static_cast<int64_t>(opcode_at_)});
  }

  int peek() const { return at_ < bytes_.size() ? static_cast<int>(bytes_[at_]) : -1; }
  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size() - at_) fail("the pickle ends early");
    const auto taken = bytes_.subspan(at_, count);
    at_ += count;
    return taken;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view text(uint64_t count) {
    const std::string_view value = as_text(take(count));
    if (!is_text(value)) fail("a string that is not UTF-8");
    return value;
  }
  std::string_view line() {
    const auto rest = as_text(bytes_.subspan(at_));
    const size_t length = rest.find('\n');
    if (length == std::string_view::npos) fail("the pickle ends early");
    const std::string_view value = text(length);
    ++at_;
    return value;
  }

  template <class T>
  T* allocate(size_t count) {
    return static_cast<T*>(pickle_.memory_->allocate(count * sizeof(T), alignof(T)));
  }
  Node& make(Kind kind) {
    // Each opcode makes at most three nodes, so their number is bounded by the input; this bounds it by choice.
    if (++made_ > limits_.nodes) fail("a pickle of too many values", Code::limit);
    Node& node = *new (allocate<Node>(1)) Node;
    node.kind = kind;
    return node;
  }
  Node& make_text(Kind kind, std::string_view text) {
    if (text.size() > most_children) fail("a string of 4 GiB or more", Code::limit);
    Node& node = make(kind);
    node.is_.text = text.data();
    node.count_ = static_cast<uint32_t>(text.size());
    return node;
  }
  Node& push(Node& node) {
    stack_.push_back(&node);
    return node;
  }
  Node& push(Kind kind) { return push(make(kind)); }
  void push_integer(int64_t value) { push(Kind::integer).is_.integer = value; }
  // Half of all values are one of a few: these are shared, as in Python.
  void push_small(uint8_t value) {
    Node*& known = small_[value];
    if (!known) {
      known = &make(Kind::integer);
      known->is_.integer = value;
    }
    stack_.push_back(known);
  }
  void push_empty_tuple() {
    if (!empty_tuple_) empty_tuple_ = &make(Kind::tuple);
    stack_.push_back(empty_tuple_);
  }

  // Children are copied behind those that the node has. Lists grow by doubling; what they leave behind stays in the arena. `spare` is
  // room for so many more.
  void add_children(Node& node, std::span<Node* const> children, size_t spare = 0) {
    if (children.empty()) return;
    const size_t before = node.count_;
    const size_t after = before + children.size();
    if (after > most_children) fail("a pickle of too many values", Code::limit);
    Node** into = node.is_.near;
    if (after > 2) {
      if (before <= 2 || after > node.is_.far.capacity) {
        const size_t capacity = before <= 2 ? after + spare : std::max(after, 2 * before);
        Node** const larger = allocate<Node*>(capacity);
        std::ranges::copy(node.children(), larger);
        node.is_.far = {larger, capacity};
      }
      into = node.is_.far.items;
    }
    std::ranges::copy(children, into + before);
    node.count_ = static_cast<uint32_t>(after);
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Node* pop() {
    if (stack_.size() <= floor()) fail("an empty stack");
    Node* node = stack_.back();
    stack_.pop_back();
    return node;
  }
  Node& top() const {
    if (stack_.size() <= floor()) fail("an empty stack");
    return *stack_.back();
  }
  // What stands above the last mark, for as long as nothing is pushed.
  std::span<Node* const> pop_to_mark() {
    if (marks_.empty()) fail("no mark on the stack");
    const auto items = std::span<Node* const>(stack_).subspan(marks_.back());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }

  void proto() {
    opcode_at_ = at_++;
    if (number<uint8_t>() > 5) fail("a pickle protocol past 5", Code::unsupported);
  }

  // BINUNICODE, POP before anything else: our name tag. POP is allowed nowhere else.
  void read_marker() {
    if (peek() != 'X') return;
    const size_t begin = at_;
    opcode_at_ = at_++;
    const std::string_view tag = text(number<uint32_t>());
    if (peek() == '0') {
      pickle_.marker_ = tag;
      ++at_;
    } else {
      at_ = begin;
    }
  }

  void step() {
    do_opcode();
    if (frame_end_ != 0 && at_ > frame_end_) fail("an opcode that crosses the end of its frame");
    if (at_ == frame_end_) frame_end_ = 0;
  }

  void do_opcode() {
    opcode_at_ = at_;
    const Node* const fresh = std::exchange(fresh_tuple_, nullptr);
    const auto code = number<uint8_t>();
    switch (code) {
      case 0x95:  // FRAME: a hint for readers of streams, which must not lie
        if (frame_end_ != 0) fail("a frame within a frame");
        frame_end_ = number<uint64_t>();
        if (frame_end_ > bytes_.size() - at_) fail("a frame that reaches past the pickle's end");
        frame_end_ = frame_end_ == 0 ? 0 : frame_end_ + at_;
        break;
      case '.': stopped_ = true; break;
      case '(': marks_.push_back(stack_.size()); break;
      case 'N': push(Kind::none); break;
      case 0x88: push(Kind::boolean).is_.integer = 1; break;
      case 0x89: push(Kind::boolean); break;
      case 'K': push_small(number<uint8_t>()); break;
      case 'M': push_integer(number<uint16_t>()); break;
      case 'J': push_integer(number<int32_t>()); break;
      case 0x8a: push_long(number<uint8_t>()); break;
      case 0x8b: push_long(number<uint32_t>()); break;
      case 'G': push(Kind::real).is_.real = std::bit_cast<double>(__builtin_bswap64(number<uint64_t>())); break;
      case 'X': push_text(Kind::text, number<uint32_t>()); break;
      case 0x8c: push_text(Kind::text, number<uint8_t>()); break;
      case 'C': push_text(Kind::bytes, number<uint8_t>()); break;
      case 'B': push_text(Kind::bytes, number<uint32_t>()); break;
      case ')': push_empty_tuple(); break;
      case ']': push(Kind::list); break;
      case '}': push(Kind::dict); break;
      case 0x85: push_tuple(pop_last(1)); break;
      case 0x86: push_tuple(pop_last(2)); break;
      case 0x87: push_tuple(pop_last(3)); break;
      case 't': push_tuple(pop_to_mark()); break;
      case 'a': append(pop_last(1)); break;
      case 'e': append(pop_to_mark()); break;
      case 's': set_items(pop_last(2)); break;
      case 'u': set_items(pop_to_mark()); break;
      case 'c': push_global(); break;
      case 0x93: push_stack_global(); break;
      case 'R': push_call(Kind::call, fresh); break;
      case 0x81: push_call(Kind::object, fresh); break;
      case 'b': build(); break;
      case 'Q': {
        if (!limits_.persistent_ids) fail("a persistent id, which metadata never has", Code::unsupported);
        const auto id = pop_last(1);
        Node& reference = make(Kind::persistent);
        add_children(reference, id);
        push(reference);
        break;
      }
      case 0x94: memo_.set(static_cast<uint32_t>(memo_.size()), &top()); break;
      case 'q': memo_.set(number<uint8_t>(), &top()); break;
      case 'r': memo_.set(number<uint32_t>(), &top()); break;
      case 'h': push_memo(number<uint8_t>()); break;
      case 'j': push_memo(number<uint32_t>()); break;
      default: fail("pickle opcode " + std::to_string(code) + ", which no checkpoint uses", Code::unsupported);
    }
  }

  void push_text(Kind kind, uint64_t count) { push(make_text(kind, kind == Kind::text ? text(count) : as_text(take(count)))); }
  void push_long(uint64_t count) {
    if (count > longest_integer_bytes) fail("an integer of too many digits", Code::limit);
    auto bytes = take(count);
    // Bytes that only repeat the sign say nothing.
    while (bytes.size() > sizeof(int64_t)) {
      const bool minus = (bytes[bytes.size() - 2] & std::byte{0x80}) != std::byte{0};
      if (bytes.back() != (minus ? std::byte{0xff} : std::byte{0})) break;
      bytes = bytes.first(bytes.size() - 1);
    }
    if (bytes.size() <= sizeof(int64_t)) {
      int64_t value = 0;
      std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::byte*>(&value));
      const int unused = static_cast<int>(8 * (sizeof value - bytes.size()));
      // Shifting up and down again carries the sign of the highest byte.
      push_integer(bytes.empty() ? 0 : static_cast<int64_t>(static_cast<uint64_t>(value) << unused) >> unused);
    } else {
      push_big(bytes);
    }
  }
  void push_big(std::span<const std::byte> bytes) {
    const std::string decimal = decimal_of_long(bytes);
    char* const kept = allocate<char>(decimal.size());
    std::ranges::copy(decimal, kept);
    push(make_text(Kind::big_integer, {kept, decimal.size()}));
  }

  // The last so many, above the mark, for as long as nothing is pushed.
  std::span<Node* const> pop_last(size_t count) {
    if (stack_.size() < floor() + count) fail("an empty stack");
    const auto items = std::span<Node* const>(stack_).last(count);
    stack_.resize(stack_.size() - count);
    return items;
  }
  void push_tuple(std::span<Node* const> items) {
    if (items.empty()) return push_empty_tuple();
    Node& tuple = make(Kind::tuple);
    add_children(tuple, items, 1);  // it may be about to become a call, and get its callee
    push(tuple);
    fresh_tuple_ = &tuple;
  }
  void append(std::span<Node* const> items) {
    Node& list = top();
    if (list.is_made()) return alter(list);
    if (list.kind != Kind::list) fail("items appended to what is no list");
    add_children(list, items);
  }
  void set_items(std::span<Node* const> items) {
    Node& target = top();
    if (items.size() % 2) fail("a key without a value");
    if (target.kind == Kind::object) return alter(target);
    if (target.kind != Kind::dict && target.kind != Kind::call) fail("items set on what is no dict");
    add_children(target.kind == Kind::dict ? target : set_of(target), items);
  }
  // The dict that stands for what was set on the result of a call.
  Node& set_of(Node& call) {
    if (!call.has_set_) {
      Node* const set = &make(Kind::dict);
      add_children(call, {&set, 1});
      call.has_set_ = true;
      call.set_first_ = !call.has_state_;
    }
    return *call.set_child();
  }
  void push_global() {
    Node& module = make_text(Kind::text, line());
    Node& name = make_text(Kind::text, line());
    push_global_of(module, name);
  }
  void push_stack_global() {
    const auto parts = pop_last(2);
    if (parts[0]->kind != Kind::text || parts[1]->kind != Kind::text) fail("a global whose name is no string");
    push_global_of(*parts[0], *parts[1]);
  }
  void push_global_of(Node& module, Node& name) {
    Node& global = push(Kind::global);
    global.is_.near[0] = &module;
    global.is_.near[1] = &name;
  }
  void push_call(Kind kind, const Node* fresh) {
    const auto parts = pop_last(2);
    Node* const callee = parts[0];
    Node* const arguments = parts[1];
    if (callee->kind != Kind::global && !callee->is_made()) fail("a call of what is no global");
    if (arguments->kind != Kind::tuple) fail("a call whose arguments are no tuple");
    if (arguments == fresh) {
      push(become_made(*arguments, kind, callee));
      return;
    }
    // The arguments are copied: a small pickle must not copy a large tuple again and again.
    made_ += static_cast<int64_t>(arguments->children().size());
    Node& made = make(kind);
    add_children(made, {&callee, 1});
    add_children(made, arguments->children());
    push(made);
  }
  // A tuple that nobody else can know becomes the call itself: a pickle of records then takes half the memory.
  Node& become_made(Node& tuple, Kind kind, Node* callee) {
    tuple.kind = kind;
    if (tuple.count_ > 2) {  // there is room for one more
      std::copy_backward(tuple.is_.far.items, tuple.is_.far.items + tuple.count_, tuple.is_.far.items + tuple.count_ + 1);
      tuple.is_.far.items[0] = callee;
      ++tuple.count_;
      return tuple;
    }
    const std::array<Node*, 2> arguments = {tuple.is_.near[0], tuple.is_.near[1]};
    const size_t count = std::exchange(tuple.count_, 0);
    add_children(tuple, {&callee, 1});
    add_children(tuple, std::span(arguments).first(count));
    return tuple;
  }
  void build() {
    Node* const state = pop();
    Node& object = top();
    if (!object.is_made()) fail("a state for what takes none");
    if (object.has_state_) return alter(object);
    add_children(object, {&state, 1});
    object.has_state_ = true;
  }
  // As a deque or an object of a class with __reduce__ has it: whoever reads the graph then knows that there is more to it.
  static void alter(Node& made) { made.altered_ = true; }
  void push_memo(uint32_t index) {
    Node* const known = memo_.find(index);
    if (!known) fail("a memo entry that was never set");
    stack_.push_back(known);
  }

  // ---- The shape: depth and size, shared parts counted each time they occur

  // Refuses cycles, and what is too deep or too large.
  void check_shape() { measure(*pickle_.root_, 1, 0); }

  struct Measure {
    int height = 0;
    int64_t weight = 0;
  };
  // Of a node at `depth`; `made_at` is the depth of the innermost call or object on the way there.
  Measure measure(Node& node, int depth, int made_at) {
    if (depth > limits_.depth) fail("values nested too deeply", Code::limit);
    if (node.kind < Kind::tuple) return {1, leaf_weight(node)};
    if (node.is_made()) made_at = depth;
    if (node.height_ > 0) {
      if (depth + node.height_ - 1 > limits_.depth) fail("values nested too deeply", Code::limit);
      return {node.height_, node.weight_};
    }
    if (node.weight_ > 0) {  // being measured, at that depth
      if (!limits_.cycles || made_at < node.weight_) fail("a value that contains itself");
      pickle_.is_cyclic_ = true;
      return {1, 1};
    }
    node.weight_ = depth;
    Measure sum{1, 1};
    const auto add = [&](Node& child, int levels) {
      const Measure inner = measure(child, depth + levels, made_at);
      sum.height = std::max(sum.height, inner.height + levels);
      sum.weight += inner.weight;
      if (sum.weight > limits_.nodes) fail("a pickle of too many values", Code::limit);
    };
    const int levels = node.is_made() ? 2 : 1;
    if (node.is_made()) {  // its arguments are a tuple, though it is not kept
      add(*node.children()[0], 1);
      add(empty_, 1);
    }
    for (Node* child : node.own_children()) add(*child, levels);
    for (Node* child : node.set_children()) add(*child, 1);
    if (node.has_state_) add(*node.state_child(), 1);
    node.height_ = static_cast<uint16_t>(sum.height);
    node.weight_ = sum.weight;
    return sum;
  }
  static int64_t leaf_weight(const Node& leaf) {
    if (leaf.kind <= Kind::integer) return 1;
    const size_t bytes = leaf.kind == Kind::global ? leaf.module().size() + leaf.name().size() : leaf.text().size();
    return 1 + static_cast<int64_t>(bytes) / text_bytes_per_node;
  }

  Pickle& pickle_;
  const std::span<const std::byte> bytes_;
  PickleLimits limits_;
  const std::string file_;
  const int64_t origin_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  size_t frame_end_ = 0;  // 0 outside a frame
  bool stopped_ = false;
  int64_t made_ = 0;
  std::vector<Node*> stack_;
  std::vector<size_t> marks_;
  Memo memo_;
  std::array<Node*, 256> small_{};
  Node* empty_tuple_ = nullptr;
  Node empty_;  // what counts as one value on one level
  Node* fresh_tuple_ = nullptr;  // that the opcode before this one made
};

Pickle::Pickle(std::span<const std::byte> bytes, const PickleLimits& limits, std::string file, int64_t origin_bytes) {
  PickleMachine(*this, bytes, limits, std::move(file), origin_bytes).run();
}

Pickle::Pickle(Bytes&& bytes, const PickleLimits& limits, std::string file, int64_t origin_bytes) : kept_(std::move(bytes)) {
  PickleMachine(*this, kept_, limits, std::move(file), origin_bytes).run();
}

}  // namespace tessera::format
