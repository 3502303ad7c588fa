#include "tessera/format/pickle.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <unordered_map>

#include "tessera/format/python_long.h"
#include "tessera/format/utf8.h"

namespace tessera::format {
namespace {

constexpr int64_t nodes_at_least = 1'000'000;   // what any pickle may stand for, and
constexpr int64_t nodes_per_byte = 16;          // what each byte of it adds: far above stock's sharing, far below a bomb
constexpr int64_t text_bytes_per_node = 32;

}  // namespace

// The stack machine. Nodes live in the Pickle's deque, so that pointers to them stay good.
class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, std::span<const std::byte> bytes, const PickleLimits& limits, std::string file, int64_t origin_bytes)
      : pickle_(pickle), bytes_(bytes), limits_(limits), file_(std::move(file)), origin_(origin_bytes) {
    limits_.nodes = std::min(limits.nodes, nodes_at_least + nodes_per_byte * static_cast<int64_t>(bytes.size()));
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
  std::string text(uint64_t count) {
    std::string value(as_text(take(count)));
    if (!is_text(value)) fail("a string that is not UTF-8");
    return value;
  }
  std::string line() {
    const auto rest = as_text(bytes_.subspan(at_));
    const size_t length = rest.find('\n');
    if (length == std::string_view::npos) fail("the pickle ends early");
    std::string value = text(length);
    ++at_;
    return value;
  }

  Node& make(Kind kind) {
    // Each opcode makes at most one node, so their number is bounded by the input; this bounds it by choice.
    if (static_cast<int64_t>(pickle_.nodes_.size()) >= limits_.nodes) fail("a pickle of too many values", Code::limit);
    return pickle_.nodes_.emplace_back(Node{.kind = kind});
  }
  Node& push(Kind kind) {
    Node& node = make(kind);
    stack_.push_back(&node);
    return node;
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
  std::vector<const Node*> pop_to_mark() {
    if (marks_.empty()) fail("no mark on the stack");
    std::vector<const Node*> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
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
    const std::string tag = text(number<uint32_t>());
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
      case 0x88: push(Kind::boolean).boolean = true; break;
      case 0x89: push(Kind::boolean); break;
      case 'K': push(Kind::integer).integer = number<uint8_t>(); break;
      case 'M': push(Kind::integer).integer = number<uint16_t>(); break;
      case 'J': push(Kind::integer).integer = number<int32_t>(); break;
      case 0x8a: push_long(number<uint8_t>()); break;
      case 0x8b: push_long(number<uint32_t>()); break;
      case 'G': push(Kind::real).real = std::bit_cast<double>(__builtin_bswap64(number<uint64_t>())); break;
      case 'X': push_text(Kind::text, number<uint32_t>()); break;
      case 0x8c: push_text(Kind::text, number<uint8_t>()); break;
      case 'C': push_text(Kind::bytes, number<uint8_t>()); break;
      case 'B': push_text(Kind::bytes, number<uint32_t>()); break;
      case ')': push(Kind::tuple); break;
      case ']': push(Kind::list); break;
      case '}': push(Kind::dict); break;
      case 0x85: push_tuple(1); break;
      case 0x86: push_tuple(2); break;
      case 0x87: push_tuple(3); break;
      case 't': {
        auto items = pop_to_mark();
        push(Kind::tuple).items = std::move(items);
        break;
      }
      case 'a': append({pop()}); break;
      case 'e': append(pop_to_mark()); break;
      case 's': {
        const Node* value = pop();
        const Node* key = pop();
        set_items({key, value});
        break;
      }
      case 'u': set_items(pop_to_mark()); break;
      case 'c': push_global(); break;
      case 0x93: push_stack_global(); break;
      case 'R': push_call(Kind::call); break;
      case 0x81: push_call(Kind::object); break;
      case 'b': build(); break;
      case 'Q': {
        if (!limits_.persistent_ids) fail("a persistent id, which metadata never has", Code::unsupported);
        const Node* id = pop();
        push(Kind::persistent).items = {id};
        break;
      }
      case 0x94: {
        const auto next = static_cast<uint32_t>(memo_.size());
        memo_[next] = &top();
        break;
      }
      case 'q': memo_[number<uint8_t>()] = &top(); break;
      case 'r': memo_[number<uint32_t>()] = &top(); break;
      case 'h': push_memo(number<uint8_t>()); break;
      case 'j': push_memo(number<uint32_t>()); break;
      default: fail("pickle opcode " + std::to_string(code) + ", which no checkpoint uses", Code::unsupported);
    }
  }

  void push_text(Kind kind, uint64_t count) {
    std::string value = kind == Kind::text ? text(count) : std::string(as_text(take(count)));
    push(kind).text = std::move(value);
  }
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
      push(Kind::integer).integer = bytes.empty() ? 0 : static_cast<int64_t>(static_cast<uint64_t>(value) << unused) >> unused;
    } else {
      push_big(bytes);
    }
  }
  void push_big(std::span<const std::byte> bytes) {
    const std::string decimal = decimal_of_long(bytes);
    push(Kind::big_integer).text = decimal;
  }
  void push_tuple(size_t count) {
    std::vector<const Node*> items(count);
    for (size_t i = count; i > 0; --i) items[i - 1] = pop();
    push(Kind::tuple).items = std::move(items);
  }
  void append(const std::vector<const Node*>& items) {
    Node& list = top();
    if (is_made(list)) return alter(list);
    if (list.kind != Kind::list) fail("items appended to what is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }
  void set_items(const std::vector<const Node*>& items) {
    Node& target = top();
    if (items.size() % 2) fail("a key without a value");
    if (target.kind == Kind::object) return alter(target);
    if (target.kind != Kind::dict && target.kind != Kind::call) fail("items set on what is no dict");
    auto& into = target.kind == Kind::dict ? target.items : target.set;
    into.insert(into.end(), items.begin(), items.end());
  }
  void push_global() {
    std::string module = line();
    std::string name = line();
    push(Kind::global).text = module + " " + name;
  }
  void push_stack_global() {
    const Node* name = pop();
    const Node* module = pop();
    if (name->kind != Kind::text || module->kind != Kind::text) fail("a global whose name is no string");
    push(Kind::global).text = module->text + " " + name->text;
  }
  void push_call(Kind kind) {
    const Node* arguments = pop();
    const Node* callee = pop();
    if (callee->kind != Kind::global && !is_made(*callee)) fail("a call of what is no global");
    if (arguments->kind != Kind::tuple) fail("a call whose arguments are no tuple");
    push(kind).items = {callee, arguments};
  }
  void build() {
    const Node* state = pop();
    Node& object = top();
    if (!is_made(object)) fail("a state for what takes none");
    if (object.state) return alter(object);
    object.state = state;
  }
  static bool is_made(const Node& node) { return node.kind == Kind::call || node.kind == Kind::object; }
  // As a deque or an object of a class with __reduce__ has it: whoever reads the graph then knows that there is more to it.
  static void alter(Node& made) { made.altered = true; }
  void push_memo(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("a memo entry that was never set");
    stack_.push_back(found->second);
  }

  // Refuses cycles, and measures depth and size with shared parts counted each time they occur.
  void check_shape() {
    struct Measure {
      int height = 0;      // 0 while being measured
      int64_t weight = 0;  // its depth while being measured
    };
    std::unordered_map<const Node*, Measure> measured;
    // `made_at` is the depth of the innermost call or object on the way here.
    const auto measure = [&](auto& self, const Node* node, int depth, int made_at) -> Measure {
      if (depth > limits_.depth) fail("values nested too deeply", Code::limit);
      const bool leaf = node->items.empty() && node->set.empty() && !node->state;
      if (leaf) return {1, 1 + static_cast<int64_t>(node->text.size()) / text_bytes_per_node};
      if (is_made(*node)) made_at = depth;
      const auto [found, fresh] = measured.try_emplace(node, Measure{0, depth});
      if (!fresh) {
        if (found->second.height == 0) {
          if (!limits_.cycles || made_at < found->second.weight) fail("a value that contains itself");
          pickle_.is_cyclic_ = true;
          return {1, 1};
        }
        if (depth + found->second.height - 1 > limits_.depth) fail("values nested too deeply", Code::limit);
        return found->second;
      }
      Measure sum{1, 1};
      const auto add = [&](const Node* child) {
        const Measure inner = self(self, child, depth + 1, made_at);
        sum.height = std::max(sum.height, inner.height + 1);
        sum.weight += inner.weight;
        if (sum.weight > limits_.nodes) fail("a pickle of too many values", Code::limit);
      };
      for (const Node* child : node->items) add(child);
      for (const Node* child : node->set) add(child);
      if (node->state) add(node->state);
      measured[node] = sum;
      return sum;
    };
    measure(measure, pickle_.root_, 1, 0);
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
  std::vector<Node*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, Node*> memo_;
};

Pickle::Pickle(std::span<const std::byte> bytes, const PickleLimits& limits, std::string file, int64_t origin_bytes) {
  PickleMachine(*this, bytes, limits, std::move(file), origin_bytes).run();
}

}  // namespace tessera::format
