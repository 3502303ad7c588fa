#include "tessera/format/value_pickle.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>
#include <set>
#include <utility>

#include "tessera/base/checked.h"
#include "tessera/layout/view.h"

namespace tessera::format {
namespace {

using Kind = Node::Kind;
using BytesKind = Value::BytesKind;
using SequenceKind = Value::SequenceKind;

// "__builtin__" as protocol 2 has it, "builtins" as later ones do.
bool is_builtin(const Node& global, std::string_view name) {
  return global.name() == name && (global.module() == "__builtin__" || global.module() == "builtins");
}

// Python's str of latin-1 characters, UTF-8 encoded, as the bytes that it stands for. Nothing if there are others in it.
std::optional<std::vector<std::byte>> bytes_of_latin1(std::string_view text) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<uint8_t>(text[i]);
    if (lead < 0x80) {
      bytes.push_back(std::byte{lead});
    } else if ((lead == 0xc2 || lead == 0xc3) && i + 1 < text.size()) {
      bytes.push_back(static_cast<std::byte>(((lead & 3) << 6) | (static_cast<uint8_t>(text[++i]) & 0x3f)));
    } else {
      return std::nullopt;
    }
  }
  return bytes;
}

std::string latin1_of_bytes(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    const auto number = static_cast<uint8_t>(byte);
    if (number >= 0x80) text += static_cast<char>(0xc0 | (number >> 6));
    text += static_cast<char>(number < 0x80 ? number : 0x80 | (number & 0x3f));
  }
  return text;
}

// What tells a key of a dict, or an element of a set, from the others: text that is equal where Python's == holds. Nothing for what
// has no hash. (1, 1.0, True and 1+0j are one key.)
std::optional<std::string> identity(const Value& value);

std::string identity_of_number(double number) {
  const bool whole_number = number >= -0x1p63 && number < 0x1p63 && number == static_cast<double>(static_cast<int64_t>(number));
  return whole_number ? "n" + std::to_string(static_cast<int64_t>(number)) : "r" + std::to_string(std::bit_cast<uint64_t>(number));
}

std::optional<std::string> identity_of_all(const std::vector<Value>& items, char kind) {
  std::vector<std::string> parts;
  for (const Value& item : items) {
    auto part = identity(item);
    if (!part) return std::nullopt;
    parts.push_back(std::to_string(part->size()) + ":" + *part);
  }
  if (kind == 'f') std::ranges::sort(parts);
  std::string all(1, kind);
  for (const std::string& part : parts) all += part;
  return all;
}

std::optional<std::string> identity(const Value& value) {
  if (const auto* number = value.as<int64_t>()) return "n" + std::to_string(*number);
  if (const auto* boolean = value.as<bool>()) return std::string(*boolean ? "n1" : "n0");
  if (const auto* real = value.as<double>()) return identity_of_number(*real);
  if (const auto* complex = value.as<Value::Complex>()) {
    return complex->im == 0 ? identity_of_number(complex->re) : "c" + identity_of_number(complex->re) + identity_of_number(complex->im);
  }
  if (const auto* big = value.as<Value::BigInt>()) return "n" + big->decimal;
  if (const auto* text = value.as<std::string>()) return "t" + *text;
  if (value.as<Value::None>()) return std::string("0");
  if (const auto* bytes = value.as<Value::ByteString>()) {
    if (bytes->kind != BytesKind::bytes) return std::nullopt;
    return "b" + std::string(as_text(bytes->data));
  }
  if (const auto* sequence = value.as<Value::Sequence>()) {
    if (sequence->kind == SequenceKind::tuple) return identity_of_all(sequence->items, '(');
    if (sequence->kind == SequenceKind::frozenset) return identity_of_all(sequence->items, 'f');
    return std::nullopt;
  }
  if (const auto* size = value.as<Value::TorchSize>()) {  // a tuple
    std::vector<Value> items(size->sizes.begin(), size->sizes.end());
    return identity_of_all(items, '(');
  }
  if (const auto* dtype = value.as<Value::TorchDType>()) return "d" + dtype->name;
  if (const auto* device = value.as<Value::TorchDevice>()) return "v" + device->name;
  return std::nullopt;
}

class Decoder {
 public:
  // With `elsewhere`, tensors are not read but listed there.
  Decoder(const Storages& storages, std::vector<TensorItem>* elsewhere)
      : storages_(storages), elsewhere_(elsewhere), tensor_bytes_left_(tensor_room * storages.source().size_bytes()) {}

  Value value(const Node& node) {
    switch (node.kind) {
      case Kind::none: return Value();
      case Kind::boolean: return Value(node.boolean());
      case Kind::integer: return Value(node.integer());
      case Kind::big_integer: return Value::BigInt{std::string(node.text())};
      case Kind::real: return Value(node.real());
      case Kind::text: return Value(std::string(node.text()));
      case Kind::bytes: return Value::bytes({as_bytes(node.text()).begin(), as_bytes(node.text()).end()});
      case Kind::tuple: return Value::tuple(values(node.items()));
      case Kind::list: return Value::list(values(node.items()));
      case Kind::dict: return Value::Mapping{pairs(node.items()), false};
      case Kind::global: return global(node);
      case Kind::call: return call(node);
      case Kind::object: return object(node);
      case Kind::persistent: break;
    }
    throw Unknown{"a bare storage"};
  }

 private:
  // Tensors of one storage are each decoded into bytes of their own. Past this many times the archive it stays opaque.
  static constexpr int64_t tensor_room = 4;

  static Unknown unknown(const Node& node) { return Unknown{made_by(node)}; }

  std::vector<Value> values(Node::Items items) {
    std::vector<Value> out;
    for (const Node* item : items) out.push_back(value(*item));
    return out;
  }
  std::vector<std::pair<Value, Value>> pairs(Node::Items items) {
    std::vector<std::pair<Value, Value>> out;
    std::set<std::string> seen;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      Value key = value(*items[i]);
      const auto own = identity(key);
      // Python keeps the last of two, and has no dict of lists: what it would make of these is not ours to say.
      if (!own || !seen.insert(*own).second) throw Unknown{"a dict with a key twice, or one that has no hash"};
      out.emplace_back(std::move(key), elsewhere_ ? value_or_opaque(*items[i + 1]) : value(*items[i + 1]));
    }
    return out;
  }

  // Where a whole file is one pickle, what we do not decode must not hide the rest.
  Value value_or_opaque(const Node& node) {
    try {
      return value(node);
    } catch (const Unknown& unknown) {
      return Value::Opaque{unknown.global, {}};
    }
  }

  static Value global(const Node& node) {
    if (node.module() == "torch" && dtype_named(node.name())) return Value::TorchDType{std::string(node.name())};
    throw Unknown{node.global()};
  }

  // What is made of a known class in a way that we do not know stays opaque, too: another Python may write it so.
  Value call(const Node& node) {
    const Node& callee = node.callee();
    const auto arguments = node.items();
    if (callee.kind != Kind::global || node.altered()) throw unknown(node);
    // A module's state dict carries its versions as an attribute; a leaf of a checkpoint that has one stays opaque and so keeps it.
    if (callee.is_global("collections OrderedDict") && arguments.empty() && (!node.state() || elsewhere_)) {
      return Value::Mapping{pairs(node.set()), true};
    }
    if (!node.set().empty() || node.state()) throw unknown(node);
    if (is_tensor(node)) return tensor(node);
    if (elsewhere_ && callee.is_global("torch._utils _rebuild_parameter") && !arguments.empty() && is_tensor(*arguments[0])) {
      return tensor(*arguments[0]);
    }
    if (callee.is_global("torch Size")) {
      if (auto sizes = sizes_of(node)) return Value::TorchSize{std::move(*sizes)};
    }
    if (callee.is_global("torch device")) return device(node);
    if (is_builtin(callee, "complex") && arguments.size() == 2 && arguments[0]->kind == Kind::real && arguments[1]->kind == Kind::real) {
      return Value::Complex{arguments[0]->real(), arguments[1]->real()};
    }
    if ((is_builtin(callee, "set") || is_builtin(callee, "frozenset")) && arguments.size() == 1 && arguments[0]->kind == Kind::list) {
      std::vector<Value> items = values(arguments[0]->items());
      std::set<std::string> seen;
      for (const Value& item : items) {
        const auto own = identity(item);
        if (!own || !seen.insert(*own).second) throw Unknown{"a set with an element twice, or one that has no hash"};
      }
      return Value::Sequence{std::move(items), callee.name() == "frozenset" ? SequenceKind::frozenset : SequenceKind::set};
    }
    if (is_builtin(callee, "bytearray") && arguments.size() <= 1) {
      return Value::ByteString{arguments.empty() ? std::vector<std::byte>{} : plain_bytes(*arguments[0]), BytesKind::bytearray};
    }
    return Value::bytes(plain_bytes(node));
  }

  // bytes: in protocol 2, the call that makes them of a str.
  static std::vector<std::byte> plain_bytes(const Node& node) {
    if (node.kind == Kind::bytes) return {as_bytes(node.text()).begin(), as_bytes(node.text()).end()};
    const bool call =
        node.kind == Kind::call && node.callee().kind == Kind::global && node.set().empty() && !node.state() && !node.altered();
    if (!call) throw unknown(node);
    const auto arguments = node.items();
    if (is_builtin(node.callee(), "bytes") && arguments.empty()) return {};
    const bool encoded = node.callee().is_global("_codecs encode") && arguments.size() == 2 && arguments[0]->kind == Kind::text &&
                         arguments[1]->kind == Kind::text && arguments[1]->text() == "latin1";
    if (encoded) {
      if (auto bytes = bytes_of_latin1(arguments[0]->text())) return std::move(*bytes);
    }
    throw unknown(node);
  }

  static Value device(const Node& node) {
    const auto arguments = node.items();
    const bool named = !arguments.empty() && arguments[0]->kind == Kind::text;
    if (named && arguments.size() == 1) return Value::TorchDevice{std::string(arguments[0]->text())};
    if (!named || arguments.size() != 2 || arguments[1]->kind != Kind::integer) throw unknown(node);
    return Value::TorchDevice{std::string(arguments[0]->text()) + ":" + std::to_string(arguments[1]->integer())};
  }

  // BytesIO by its state (bytes, position, attributes). Another position, and attributes, have no place in a Value.
  static Value object(const Node& node) {
    const bool known = node.callee().is_global("_io BytesIO") && node.items().empty() && !node.altered() && node.state() &&
                       node.state()->kind == Kind::tuple && node.state()->items().size() == 3;
    if (!known) throw unknown(node);
    const Node& position = *node.state()->items()[1];
    const Node& attributes = *node.state()->items()[2];
    const bool bare = attributes.kind == Kind::none || (attributes.kind == Kind::dict && attributes.items().empty());
    if (position.kind != Kind::integer || position.integer() != 0 || !bare) throw unknown(node);
    return Value::ByteString{plain_bytes(*node.state()->items()[0]), BytesKind::bytes_io};
  }

  Value tensor(const Node& node) {
    const TensorItem item = tensor_of(node, storages_);
    if (elsewhere_) {
      elsewhere_->push_back(item);
      return Value::Tensor{item.dtype, item.sizes, {}, static_cast<int64_t>(elsewhere_->size()) - 1};
    }
    if (item.conjugate || item.negative || item.big_endian) throw unknown(node);  // kept as it is rather than computed on
    const int64_t each = element_bytes(item.dtype);
    const int64_t bytes = volume(item.sizes) * each;
    if (bytes > tensor_bytes_left_) throw unknown(node);
    tensor_bytes_left_ -= bytes;
    Value::Tensor out{item.dtype, item.sizes, std::vector<std::byte>(static_cast<size_t>(bytes))};
    if (bytes == 0) return out;
    // From the first element to the last: the rest of the storage is not read.
    int64_t extent = each;
    for (size_t d = 0; d < item.sizes.size(); ++d) extent += (item.sizes[d] - 1) * item.strides[d] * each;
    Bytes storage(static_cast<size_t>(extent));
    storages_.source().read(item.first_bytes, storage);
    View from = dense_view(storage.data(), item.dtype, item.sizes);
    from.strides = item.strides;
    copy(from, dense_view(out.data.data(), item.dtype, item.sizes));
    return out;
  }

  const Storages& storages_;
  std::vector<TensorItem>* const elsewhere_;
  int64_t tensor_bytes_left_;
};

// What is written must be read again: a leaf takes up to five levels of a pickle's hundred.
constexpr int deepest = PickleLimits{}.depth - 5;

}  // namespace

Value decode_value(const Node& node, const Storages& storages, std::vector<TensorItem>* elsewhere) {
  return Decoder(storages, elsewhere).value(node);
}

// One put() for each kind of value.
class ValuePickler::Visitor {
 public:
  explicit Visitor(ValuePickler& pickler) : pickler_(pickler), out_(pickler.out_), tensors_(pickler.tensors_), depth_(pickler.depth_) {}

  void put(const Value& value) { pickler_.put(value); }
  void put(const Value::None&) { out_.none(); }
  void put(bool value) { out_.boolean(value); }
  void put(int64_t value) { out_.integer(value); }
  void put(const Value::BigInt& value) { out_.big_integer(value.decimal); }
  void put(double value) { out_.real(value); }
  void put(const std::string& value) { out_.text(value); }

  void put_plain_bytes(const std::vector<std::byte>& data) {
    if (data.empty()) {
      out_.global("__builtin__ bytes");
      out_.empty_tuple();
    } else {
      out_.global("_codecs encode");
      out_.text(latin1_of_bytes(data));
      out_.text("latin1");
      out_.tuple2();
    }
    out_.reduce();
  }
  void put(const Value::ByteString& value) {
    if (value.kind == BytesKind::bytes) return put_plain_bytes(value.data);
    if (value.kind == BytesKind::bytearray) {
      out_.global("__builtin__ bytearray");
      put_plain_bytes(value.data);
      out_.tuple1();
      return out_.reduce();
    }
    out_.global("_io BytesIO");
    out_.empty_tuple();
    out_.new_object();
    put_plain_bytes(value.data);
    out_.integer(0);
    out_.none();
    out_.tuple3();
    out_.build();
  }

  void put(const Value::Complex& value) {
    out_.global("__builtin__ complex");
    out_.real(value.re);
    out_.real(value.im);
    out_.tuple2();
    out_.reduce();
  }

  void put_list(const std::vector<Value>& items) {
    out_.empty_list();
    if (items.empty()) return;
    out_.mark();
    for (const Value& item : items) put(item);
    out_.appends();
  }
  void put(const Value::Sequence& value) {
    switch (value.kind) {
      case SequenceKind::list: return put_list(value.items);
      case SequenceKind::tuple:
        if (value.items.empty()) return out_.empty_tuple();
        out_.mark();
        for (const Value& item : value.items) put(item);
        return out_.tuple();
      default:
        for (std::set<std::string> seen; const Value& item : value.items) check_apart(item, seen);
        out_.global(value.kind == SequenceKind::set ? "__builtin__ set" : "__builtin__ frozenset");
        depth_ += 2;  // the arguments and the list of its items count too
        put_list(value.items);
        depth_ -= 2;
        out_.tuple1();
        return out_.reduce();
    }
  }

  void put(const Value::Mapping& value) {
    if (value.ordered) {
      out_.global("collections OrderedDict");
      out_.empty_tuple();
      out_.reduce();
    } else {
      out_.empty_dict();
    }
    if (value.items.empty()) return;
    out_.mark();
    std::set<std::string> seen;
    for (const auto& [key, item] : value.items) {
      check_apart(key, seen);
      put(key);
      put(item);
    }
    out_.set_items();
  }

  static void check_apart(const Value& key, std::set<std::string>& seen) {
    const auto own = identity(key);
    if (!own || !seen.insert(*own).second) {
      throw Error({.code = Code::invalid_argument, .what = to_string(key) + " twice in one dict or set, or without a hash in Python"});
    }
  }

  void put(const Value::TorchDType& value) {
    if (!dtype_named(value.name)) throw Error({.code = Code::invalid_argument, .what = "no dtype is named '" + value.name + "'"});
    out_.global("torch " + value.name);
  }
  void put(const Value::TorchSize& value) {
    out_.global("torch Size");
    out_.integers(value.sizes);
    out_.tuple1();
    out_.reduce();
  }
  void put(const Value::TorchDevice& value) {
    const size_t colon = value.name.find(':');
    out_.global("torch device");
    out_.text(value.name.substr(0, colon));
    if (colon == std::string::npos) {
      out_.tuple1();
    } else {
      out_.integer(device_number(value.name, colon + 1));
      out_.tuple2();
    }
    out_.reduce();
  }
  static int64_t device_number(const std::string& name, size_t begin) {
    int64_t number = -1;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + begin, end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end || number < 0)
      throw Error({.code = Code::invalid_argument, .what = "no device is named '" + name + "'"});
    return number;
  }

  void put(const Value::Tensor& value) {
    const int64_t bytes =
        checked_multiply(checked_volume(value.sizes, Code::invalid_argument), element_bytes(value.dtype), Code::invalid_argument);
    if (value.place < 0 && static_cast<int64_t>(value.data.size()) != bytes)
      throw Error({.code = Code::invalid_argument, .what = "a tensor whose bytes do not fit its shape"});
    write_tensor(out_, value.dtype, value.sizes, std::to_string(tensors_.size()));
    tensors_.push_back(&value);
  }
  void put(const Value::Opaque& value) {
    throw Error({.code = Code::unsupported, .what = "an opaque value ('" + value.global + "') inside another cannot be written"});
  }

 private:
  ValuePickler& pickler_;
  PickleWriter& out_;
  std::vector<const Value::Tensor*>& tensors_;
  int& depth_;
};

void ValuePickler::put(const Value& value) {
  if (++depth_ > deepest) throw Error({.code = Code::limit, .what = "a value nested too deeply to be read again"});
  Visitor visitor(*this);
  std::visit([&](const auto& inner) { visitor.put(inner); }, value.is);
  --depth_;
}

}  // namespace tessera::format
