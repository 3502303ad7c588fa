// Objects of item.h: Python's plain values as a torch.save archive, and back.
#include <algorithm>
#include <deque>
#include <map>

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
  std::string global;
};

// "__builtin__" as protocol 2 has it, "builtins" as later ones do.
bool is_builtin(const std::string& global, const char* name) {
  return global == std::string("__builtin__ ") + name || global == std::string("builtins ") + name;
}

// Python's str of latin-1 characters, UTF-8 encoded, as the bytes that it stands for.
std::vector<std::byte> bytes_of_latin1(const std::string& text, const ByteSource& source) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<uint8_t>(text[i]);
    if (lead < 0x80) {
      bytes.push_back(std::byte{lead});
    } else if ((lead == 0xc2 || lead == 0xc3) && i + 1 < text.size()) {
      bytes.push_back(static_cast<std::byte>(((lead & 3) << 6) | (static_cast<uint8_t>(text[++i]) & 0x3f)));
    } else {
      throw corrupt_at(source, 0, "bytes that are not latin-1");
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
  explicit Decoder(const ArchiveReader& archive) : archive_(archive) {}

  Value value(const Node& node) const {
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
    throw fail("a storage outside a tensor");
  }

 private:
  Error fail(const char* what) const { return corrupt_at(archive_.source(), 0, what); }

  std::vector<Value> values(const std::vector<const Node*>& items) const {
    std::vector<Value> out;
    for (const Node* item : items) out.push_back(value(*item));
    return out;
  }
  std::vector<std::pair<Value, Value>> pairs(const std::vector<const Node*>& items) const {
    std::vector<std::pair<Value, Value>> out;
    for (size_t i = 0; i + 1 < items.size(); i += 2) out.emplace_back(value(*items[i]), value(*items[i + 1]));
    return out;
  }

  Value global(const std::string& name) const {
    if (name.starts_with("torch ")) {
      const std::string dtype = name.substr(6);
      if (dtype_named(dtype)) return Value::TorchDType{dtype};
    }
    throw Unknown{name};
  }

  Value call(const Node& node) const {
    const std::string& callee = node.items[0]->text;
    const auto& arguments = node.items[1]->items;
    if (callee == "collections OrderedDict" && arguments.empty()) return Value::Mapping{pairs(node.set), true};
    if (!node.set.empty()) throw Unknown{callee};
    if (is_tensor(node)) return tensor(node);
    if (callee == "_codecs encode" && arguments.size() == 2 && arguments[0]->kind == Kind::text && arguments[1]->text == "latin1") {
      return Value::bytes(bytes_of_latin1(arguments[0]->text, archive_.source()));
    }
    if (is_builtin(callee, "bytes") && arguments.empty()) return Value::bytes({});
    if (is_builtin(callee, "bytearray") && arguments.size() <= 1) {
      return Value::ByteString{arguments.empty() ? std::vector<std::byte>{} : plain_bytes(*arguments[0]), BytesKind::bytearray};
    }
    if (is_builtin(callee, "set") || is_builtin(callee, "frozenset")) {
      if (arguments.size() != 1 || arguments[0]->kind != Kind::list) throw fail("a set that is not made of a list");
      return Value::Sequence{values(arguments[0]->items), callee.ends_with("frozenset") ? SequenceKind::frozenset : SequenceKind::set};
    }
    if (is_builtin(callee, "complex") && arguments.size() == 2 && arguments[0]->kind == Kind::real && arguments[1]->kind == Kind::real) {
      return Value::Complex{arguments[0]->real, arguments[1]->real};
    }
    if (callee == "torch Size") return Value::TorchSize{sizes_of(node, archive_.source().file())};
    if (callee == "torch device") return device(arguments);
    throw Unknown{callee};
  }

  Value device(const std::vector<const Node*>& arguments) const {
    const bool good = (arguments.size() == 1 || arguments.size() == 2) && arguments[0]->kind == Kind::text &&
                      (arguments.size() == 1 || arguments[1]->kind == Kind::integer);
    if (!good) throw fail("a device that is not named as torch does");
    return Value::TorchDevice{arguments[0]->text + (arguments.size() == 2 ? ":" + std::to_string(arguments[1]->integer) : "")};
  }

  std::vector<std::byte> plain_bytes(const Node& node) const {
    const Value inner = value(node);
    const auto* bytes = inner.as<Value::ByteString>();
    if (!bytes || bytes->kind != BytesKind::bytes) throw fail("bytes were expected");
    return bytes->data;
  }

  Value object(const Node& node) const {
    const std::string& type = node.items[0]->text;
    const bool bytes_io = type == "_io BytesIO" && node.items[1]->items.empty() && node.state && node.state->kind == Kind::tuple &&
                          node.state->items.size() == 3;
    if (!bytes_io) throw Unknown{type};
    return Value::ByteString{plain_bytes(*node.state->items[0]), BytesKind::bytes_io};
  }

  Value tensor(const Node& node) const {
    const TensorItem item = tensor_of(node, archive_);
    if (item.conjugate || item.negative || item.big_endian) throw Unknown{node.items[0]->text};  // kept as it is rather than computed on
    // Strides of 0 make much of little: what is decoded must not be larger than what was read.
    if (checked_multiply(volume(item.sizes), element_bytes(item.dtype)) > std::max<int64_t>(item.data_bytes, 0))
      throw Unknown{node.items[0]->text};
    // The name of a storage is found again through its place: tensor_of has checked it.
    const Node& id = *node.items[1]->items[0]->items[0];
    Bytes storage = archive_.read(archive_.storage(id.items[2]->text));
    Value::Tensor out{item.dtype, item.sizes, {}};
    out.data.resize(static_cast<size_t>(volume(item.sizes) * element_bytes(item.dtype)));
    View from = dense_view(storage.data() + (item.first_bytes - item.data_offset_bytes), item.dtype, item.sizes);
    from.strides = item.strides;
    copy(from, dense_view(out.data.data(), item.dtype, item.sizes));
    return out;
  }

  const ArchiveReader& archive_;
};

// Writes a value as protocol 2, as CPython would; the tensors in it become storages of the archive, in order.
class Encoder {
 public:
  void put(const Value& value) {
    std::visit([&](const auto& inner) { put(inner); }, value.is);
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
        put_list(value.items);
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
      out.integer(std::stoi(value.name.substr(colon + 1)));
      out.tuple2();
    }
    out.reduce();
  }

  void put(const Value::Tensor& value) {
    if (static_cast<int64_t>(value.data.size()) != volume(value.sizes) * element_bytes(value.dtype))
      throw Error({.code = Code::invalid_argument, .what = "a tensor whose bytes do not fit its shape"});
    write_tensor(out, value.dtype, value.sizes, std::to_string(tensors.size()));
    tensors.push_back(&value);
  }
  void put(const Value::Opaque& value) {
    throw Error({.code = Code::unsupported, .what = "an opaque value ('" + value.global + "') inside another cannot be written"});
  }
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
  const ArchiveReader archive(item);
  const Pickle pickle = archive.pickle(item.size_bytes());
  try {
    return Decoder(archive).value(pickle.root());
  } catch (const Unknown& unknown) {
    Value::Opaque opaque{unknown.global, std::vector<std::byte>(static_cast<size_t>(item.size_bytes()))};
    item.read(0, opaque.archive);
    return opaque;
  }
}

}  // namespace tessera::format
