// Objects of item.h: Python's plain values as a torch.save archive, and back.
#include <charconv>
#include <optional>
#include <utility>

#include "tessera/base/checked.h"
#include "tessera/base/digest.h"
#include "tessera/format/archive.h"
#include "tessera/format/item.h"
#include "tessera/layout/view.h"

namespace tessera::format {
namespace {

using Kind = Node::Kind;
using BytesKind = Value::BytesKind;
using SequenceKind = Value::SequenceKind;

// Leaves the decoder when a value is not one that we decode: the whole item then stays opaque.
struct Unknown {
  std::string global;  // or what else stands in the way
};

// "__builtin__" as protocol 2 has it, "builtins" as later ones do.
bool is_builtin(std::string_view global, std::string_view name) {
  const size_t space = global.find(' ');
  if (space == std::string_view::npos || global.substr(space + 1) != name) return false;
  return global.substr(0, space) == "__builtin__" || global.substr(0, space) == "builtins";
}

// Python's str of latin-1 characters, UTF-8 encoded, as the bytes that it stands for. Nothing if there are others in it.
std::optional<std::vector<std::byte>> bytes_of_latin1(const std::string& text) {
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

class Decoder {
 public:
  explicit Decoder(const ArchiveReader& archive) : archive_(archive), tensor_bytes_left_(tensor_room * archive.source().size_bytes()) {}

  Value value(const Node& node) {
    switch (node.kind) {
      case Kind::none: return Value();
      case Kind::boolean: return Value(node.boolean);
      case Kind::integer: return Value(node.integer);
      case Kind::big_integer: return Value::BigInt{node.text};
      case Kind::real: return Value(node.real);
      case Kind::text: return Value(node.text);
      case Kind::bytes: return Value::bytes({as_bytes(node.text).begin(), as_bytes(node.text).end()});
      case Kind::tuple: return Value::tuple(values(node.items));
      case Kind::list: return Value::list(values(node.items));
      case Kind::dict: return Value::Mapping{pairs(node.items), false};
      case Kind::global: return global(node.text);
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

  std::vector<Value> values(const std::vector<const Node*>& items) {
    std::vector<Value> out;
    for (const Node* item : items) out.push_back(value(*item));
    return out;
  }
  std::vector<std::pair<Value, Value>> pairs(const std::vector<const Node*>& items) {
    std::vector<std::pair<Value, Value>> out;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      Value key = value(*items[i]);
      out.emplace_back(std::move(key), value(*items[i + 1]));
    }
    return out;
  }

  Value global(const std::string& name) const {
    if (name.starts_with("torch ")) {
      const std::string dtype = name.substr(6);
      if (dtype_named(dtype)) return Value::TorchDType{dtype};
    }
    throw Unknown{name};
  }

  // What is made of a known class in a way that we do not know stays opaque, too: another Python may write it so.
  Value call(const Node& node) {
    const std::string& callee = node.items[0]->text;
    const auto& arguments = node.items[1]->items;
    if (node.items[0]->kind != Kind::global || node.altered) throw unknown(node);
    if (callee == "collections OrderedDict" && arguments.empty()) return Value::Mapping{pairs(node.set), true};
    if (!node.set.empty()) throw unknown(node);
    if (is_tensor(node)) return tensor(node);
    if (callee == "torch Size") {
      if (auto sizes = sizes_of(node)) return Value::TorchSize{std::move(*sizes)};
    }
    if (callee == "torch device") return device(node);
    if (is_builtin(callee, "complex") && arguments.size() == 2 && arguments[0]->kind == Kind::real && arguments[1]->kind == Kind::real) {
      return Value::Complex{arguments[0]->real, arguments[1]->real};
    }
    if ((is_builtin(callee, "set") || is_builtin(callee, "frozenset")) && arguments.size() == 1 && arguments[0]->kind == Kind::list) {
      return Value::Sequence{values(arguments[0]->items), callee.ends_with("frozenset") ? SequenceKind::frozenset : SequenceKind::set};
    }
    if (is_builtin(callee, "bytearray") && arguments.size() <= 1) {
      return Value::ByteString{arguments.empty() ? std::vector<std::byte>{} : plain_bytes(*arguments[0]), BytesKind::bytearray};
    }
    return Value::bytes(plain_bytes(node));
  }

  // bytes: in protocol 2, the call that makes them of a str.
  static std::vector<std::byte> plain_bytes(const Node& node) {
    if (node.kind == Kind::bytes) return {as_bytes(node.text).begin(), as_bytes(node.text).end()};
    const bool call = node.kind == Kind::call && node.items[0]->kind == Kind::global && node.set.empty() && !node.altered;
    if (!call) throw unknown(node);
    const auto& arguments = node.items[1]->items;
    if (is_builtin(node.items[0]->text, "bytes") && arguments.empty()) return {};
    const bool encoded = node.items[0]->text == "_codecs encode" && arguments.size() == 2 && arguments[0]->kind == Kind::text &&
                         arguments[1]->kind == Kind::text && arguments[1]->text == "latin1";
    if (encoded) {
      if (auto bytes = bytes_of_latin1(arguments[0]->text)) return std::move(*bytes);
    }
    throw unknown(node);
  }

  static Value device(const Node& node) {
    const auto& arguments = node.items[1]->items;
    const bool named = !arguments.empty() && arguments[0]->kind == Kind::text;
    if (named && arguments.size() == 1) return Value::TorchDevice{arguments[0]->text};
    if (!named || arguments.size() != 2 || arguments[1]->kind != Kind::integer) throw unknown(node);
    return Value::TorchDevice{arguments[0]->text + ":" + std::to_string(arguments[1]->integer)};
  }

  // BytesIO by its state (bytes, position, attributes). Another position, and attributes, have no place in a Value.
  static Value object(const Node& node) {
    const bool known = node.items[0]->text == "_io BytesIO" && node.items[1]->items.empty() && !node.altered && node.state &&
                       node.state->kind == Kind::tuple && node.state->items.size() == 3;
    if (!known) throw unknown(node);
    const Node& position = *node.state->items[1];
    const Node& attributes = *node.state->items[2];
    const bool bare = attributes.kind == Kind::none || (attributes.kind == Kind::dict && attributes.items.empty());
    if (position.kind != Kind::integer || position.integer != 0 || !bare) throw unknown(node);
    return Value::ByteString{plain_bytes(*node.state->items[0]), BytesKind::bytes_io};
  }

  Value tensor(const Node& node) {
    const TensorItem item = tensor_of(node, archive_);
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
    archive_.source().read(item.first_bytes, storage);
    View from = dense_view(storage.data(), item.dtype, item.sizes);
    from.strides = item.strides;
    copy(from, dense_view(out.data.data(), item.dtype, item.sizes));
    return out;
  }

  const ArchiveReader& archive_;
  int64_t tensor_bytes_left_;
};

// Writes a value as protocol 2, as CPython would; the tensors in it become storages of the archive, in order.
class Encoder {
 public:
  void put(const Value& value) {
    if (++depth_ > deepest) throw Error({.code = Code::limit, .what = "a value nested too deeply to be read again"});
    std::visit([&](const auto& inner) { put(inner); }, value.is);
    --depth_;
  }
  PickleWriter out;
  std::vector<const Value::Tensor*> tensors;

 private:
  void put(const Value::None&) { out.none(); }
  void put(bool value) { out.boolean(value); }
  void put(int64_t value) { out.integer(value); }
  void put(const Value::BigInt& value) { out.big_integer(value.decimal); }
  void put(double value) { out.real(value); }
  void put(const std::string& value) { out.text(value); }

  void put_plain_bytes(const std::vector<std::byte>& data) {
    if (data.empty()) {
      out.global("__builtin__ bytes");
      out.empty_tuple();
    } else {
      out.global("_codecs encode");
      out.text(latin1_of_bytes(data));
      out.text("latin1");
      out.tuple2();
    }
    out.reduce();
  }
  void put(const Value::ByteString& value) {
    if (value.kind == BytesKind::bytes) return put_plain_bytes(value.data);
    if (value.kind == BytesKind::bytearray) {
      out.global("__builtin__ bytearray");
      put_plain_bytes(value.data);
      out.tuple1();
      return out.reduce();
    }
    out.global("_io BytesIO");
    out.empty_tuple();
    out.new_object();
    put_plain_bytes(value.data);
    out.integer(0);
    out.none();
    out.tuple3();
    out.build();
  }

  void put(const Value::Complex& value) {
    out.global("__builtin__ complex");
    out.real(value.re);
    out.real(value.im);
    out.tuple2();
    out.reduce();
  }

  void put_list(const std::vector<Value>& items) {
    out.empty_list();
    if (items.empty()) return;
    out.mark();
    for (const Value& item : items) put(item);
    out.appends();
  }
  void put(const Value::Sequence& value) {
    switch (value.kind) {
      case SequenceKind::list: return put_list(value.items);
      case SequenceKind::tuple:
        if (value.items.empty()) return out.empty_tuple();
        out.mark();
        for (const Value& item : value.items) put(item);
        return out.tuple();
      default:
        out.global(value.kind == SequenceKind::set ? "__builtin__ set" : "__builtin__ frozenset");
        depth_ += 2;  // the arguments and the list of its items count too
        put_list(value.items);
        depth_ -= 2;
        out.tuple1();
        return out.reduce();
    }
  }

  void put(const Value::Mapping& value) {
    if (value.ordered) {
      out.global("collections OrderedDict");
      out.empty_tuple();
      out.reduce();
    } else {
      out.empty_dict();
    }
    if (value.items.empty()) return;
    out.mark();
    for (const auto& [key, item] : value.items) {
      put(key);
      put(item);
    }
    out.set_items();
  }

  void put(const Value::TorchDType& value) {
    if (!dtype_named(value.name)) throw Error({.code = Code::invalid_argument, .what = "no dtype is named '" + value.name + "'"});
    out.global("torch " + value.name);
  }
  void put(const Value::TorchSize& value) {
    out.global("torch Size");
    out.integers(value.sizes);
    out.tuple1();
    out.reduce();
  }
  void put(const Value::TorchDevice& value) {
    const size_t colon = value.name.find(':');
    out.global("torch device");
    out.text(value.name.substr(0, colon));
    if (colon == std::string::npos) {
      out.tuple1();
    } else {
      out.integer(device_number(value.name, colon + 1));
      out.tuple2();
    }
    out.reduce();
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
    if (static_cast<int64_t>(value.data.size()) != bytes)
      throw Error({.code = Code::invalid_argument, .what = "a tensor whose bytes do not fit its shape"});
    write_tensor(out, value.dtype, value.sizes, std::to_string(tensors.size()));
    tensors.push_back(&value);
  }
  void put(const Value::Opaque& value) {
    throw Error({.code = Code::unsupported, .what = "an opaque value ('" + value.global + "') inside another cannot be written"});
  }

  // What is written must be read again: a leaf takes up to five levels of a pickle's hundred.
  static constexpr int deepest = PickleLimits{}.depth - 5;
  int depth_ = 0;
};

}  // namespace

Bytes write_object_item(const Value& value) {
  if (const auto* opaque = value.as<Value::Opaque>()) return opaque->archive;
  Encoder encoder;
  encoder.put(value);
  ZipLayout layout;
  ByteWriter archive;
  const auto add = [&](const std::string& name, std::span<const std::byte> bytes, bool aligned) {
    layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), aligned);
    archive.put_raw(layout.header());
    archive.put_raw(bytes);
  };
  add("archive/data.pkl", encoder.out.finish(), false);
  add("archive/byteorder", as_bytes("little"), false);
  add("archive/version", as_bytes("3\n"), false);
  for (size_t i = 0; i < encoder.tensors.size(); ++i) add("archive/data/" + std::to_string(i), encoder.tensors[i]->data, true);
  archive.put_raw(layout.directory());
  return archive.take();
}

Value read_object_item(const ByteSource& item) {
  return parse(item, [&]() -> Value {
    const ArchiveReader archive(item);
    archive.check();
    const Pickle pickle = archive.pickle(item.size_bytes());
    try {
      if (pickle.is_cyclic()) throw Unknown{made_by(pickle.root())};
      return Decoder(archive).value(pickle.root());
    } catch (const Unknown& unknown) {
      Value::Opaque opaque{unknown.global, std::vector<std::byte>(static_cast<size_t>(item.size_bytes()))};
      item.read(0, opaque.archive);
      return opaque;
    }
  });
}

}  // namespace tessera::format
