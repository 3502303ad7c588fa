#include "tessera/format/torch_file.h"

#include <algorithm>
#include <array>
#include <set>

#include "tessera/base/checked.h"
#include "tessera/base/digest.h"
#include "tessera/format/archive.h"
#include "tessera/format/nested.h"
#include "tessera/format/value_pickle.h"

namespace tessera::format {
namespace {

using Kind = Node::Kind;

constexpr std::array<uint8_t, 4> zip_magic = {'P', 'K', 3, 4};
// PROTO 2, LONG1 of ten bytes: 0x1950a86a20f9469cfc6c.
constexpr std::array<uint8_t, 15> legacy_magic = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
constexpr int64_t legacy_protocol = 1001;

template <size_t N>
bool begins_with(const ByteSource& file, const std::array<uint8_t, N>& magic) {
  if (file.size_bytes() < static_cast<int64_t>(N)) return false;
  std::array<std::byte, N> head{};
  file.read(0, head);
  return std::ranges::equal(head, std::as_bytes(std::span(magic)));
}

// The decoded root, as leaves.
TorchFile leaves_of(const Node& root, bool cyclic, const Storages& storages) {
  const ByteSource& source = storages.source();
  const auto unsupported = [&](const std::string& what) {
    return Error({.code = Code::unsupported, .what = what, .file = source.file(), .offset_bytes = source.origin_bytes()});
  };
  if (cyclic) throw unsupported("a value that contains itself");
  TorchFile out;
  Value value;
  try {
    value = decode_value(root, storages, &out.tensors);
  } catch (const Unknown& unknown) {
    throw Error({.code = Code::unsupported,
                 .what = "the file holds a '" + unknown.global + "', not a state dict",
                 .file = source.file(),
                 .hint = "save model.state_dict(), not the model"});
  }
  if (!value.as<Value::Mapping>()) throw unsupported("the file holds no dict");
  for (auto& [path, leaf] : flatten(value)) {
    const auto* tensor = leaf.as<Value::Tensor>();
    TorchFile::Leaf entry{path, {}};
    if (tensor) entry.is = static_cast<size_t>(tensor->place);
    else entry.is = std::move(leaf);
    const std::string key = join(path);
    if (!out.leaves.emplace(key, std::move(entry)).second) throw unsupported("two values that would both be '" + key + "'");
  }
  std::map<std::string, const KeyPath*> paths;
  for (const auto& [key, leaf] : out.leaves) paths.emplace(key, &leaf.path);
  check_paths(paths, Code::unsupported);
  return out;
}

TorchFile read_zip(const ByteSource& file, const Limits& limits) {
  const ArchiveReader archive(file);
  const Pickle pickle = archive.pickle(limits.metadata_bytes);
  return leaves_of(pickle.root(), pickle.is_cyclic(), archive);
}

// ---- The legacy form: five pickles, then the storages, each after its number of elements.

class LegacyStorages final : public Storages {
 public:
  explicit LegacyStorages(const ByteSource& file) : file_(file) {}
  const ByteSource& source() const override { return file_; }
  bool big_endian() const override { return big_endian_; }
  StoragePlace storage(const std::string& key) const override {
    const auto found = places_.find(key);
    if (found == places_.end()) throw corrupt_at(file_, 0, "a tensor whose storage is not in the file");
    return found->second;
  }

  void set_big_endian(bool big) { big_endian_ = big; }
  // Reads the numbers before the data, which begins at `at`.
  void find(const Node& keys, const std::map<std::string, int64_t>& each_bytes, int64_t at) {
    if (keys.kind != Kind::list) throw corrupt_at(file_, at, "storage keys that are no list");
    for (const Node* key : keys.items()) {
      const auto each = key->kind == Kind::text ? each_bytes.find(std::string(key->text())) : each_bytes.end();
      if (each == each_bytes.end()) throw corrupt_at(file_, at, "a storage that no tensor names");
      std::array<std::byte, 8> count{};
      file_.read(at, count);
      const auto numel = ByteReader(count).get<int64_t>();
      if (numel < 0) throw corrupt_at(file_, at, "a storage of negative size");
      const int64_t bytes = checked_multiply(numel, each->second);
      if (!inside(at + 8, static_cast<uint64_t>(bytes), file_.size_bytes()))
        throw corrupt_at(file_, at, "a storage that reaches past the file's end");
      if (!places_.emplace(std::string(key->text()), StoragePlace{at + 8, bytes, std::nullopt}).second)
        throw corrupt_at(file_, at, "one storage twice");
      at += 8 + bytes;
    }
    if (at != file_.size_bytes()) throw corrupt_at(file_, at, "bytes after the last storage");
  }

 private:
  const ByteSource& file_;
  bool big_endian_ = false;
  std::map<std::string, StoragePlace> places_;
};

// The size of an element of each storage that is named anywhere below the node.
void add_storages(const Node& node, const ByteSource& file, std::set<const Node*>& seen, std::map<std::string, int64_t>& each_bytes) {
  if (!seen.insert(&node).second) return;
  if (node.kind == Kind::persistent) {
    const StorageId id = storage_id(node, file);
    const auto [known, fresh] = each_bytes.emplace(id.key, id.each_bytes());
    if (!fresh && known->second != id.each_bytes()) throw corrupt_at(file, 0, "one storage with elements of two sizes");
    return;
  }
  if (node.is_made()) add_storages(node.callee(), file, seen, each_bytes);
  for (const Node* item : node.items()) add_storages(*item, file, seen, each_bytes);
  for (const Node* item : node.set()) add_storages(*item, file, seen, each_bytes);
  if (node.state()) add_storages(*node.state(), file, seen, each_bytes);
}

bool little_endian(const Node& system) {
  if (system.kind == Kind::dict) {
    for (size_t i = 0; i + 1 < system.items().size(); i += 2) {
      if (system.items()[i]->text() == "little_endian" && system.items()[i + 1]->kind == Kind::boolean)
        return system.items()[i + 1]->boolean();
    }
  }
  throw Error({.code = Code::corrupt, .what = "a legacy file that does not say its byte order"});
}

TorchFile parse_legacy(const ByteSource& file, std::span<const std::byte> head, const Limits& limits) {
  int64_t at = 0;
  const auto next = [&](bool object) {
    PickleLimits of_pickle{.nodes = limits.nodes, .depth = limits.depth, .persistent_ids = object, .more = true, .cycles = object};
    Pickle pickle(head.subspan(static_cast<size_t>(at)), of_pickle, file.file(), file.origin_bytes() + at);
    at += pickle.size_bytes();
    return pickle;
  };
  next(false);  // the magic number, which was compared
  const Pickle protocol = next(false);
  if (protocol.root().kind != Kind::integer || protocol.root().integer() != legacy_protocol) {
    throw Error(
        {.code = Code::unsupported, .what = "a legacy file of another protocol", .file = file.file(), .offset_bytes = file.origin_bytes()});
  }
  const Pickle system = next(false);
  LegacyStorages storages(file);
  storages.set_big_endian(!little_endian(system.root()));
  const Pickle object = next(true);
  const Pickle keys = next(false);
  std::set<const Node*> seen;
  std::map<std::string, int64_t> each_bytes;
  add_storages(object.root(), file, seen, each_bytes);
  storages.find(keys.root(), each_bytes, at);
  return leaves_of(object.root(), object.is_cyclic(), storages);
}

// Nothing says how long the pickles are: more of the file is read until they end.
TorchFile read_legacy(const ByteSource& file, const Limits& limits) {
  const int64_t most = std::min(file.size_bytes(), limits.metadata_bytes);
  for (int64_t count = std::min(most, int64_t{1} << 20);; count = std::min(most, count * 4)) {
    Bytes head(static_cast<size_t>(count));
    file.read(0, head);
    auto outcome = capture([&] { return parse_legacy(file, head, limits); });
    if (outcome || count == most || outcome.fault.code != Code::corrupt) return std::move(outcome).or_throw();
  }
}

// What torch.load(weights_only=True) of 2.13 does not take.
void check_loadable(const std::string& key, const Value& value) {
  const auto refuse = [&](const std::string& what) {
    throw Error({.code = Code::unsupported, .what = "'" + key + "' is or holds " + what + ", which torch.load(weights_only=True) refuses"});
  };
  if (const auto* opaque = value.as<Value::Opaque>()) refuse("a '" + opaque->global + "'");
  if (const auto* bytes = value.as<Value::ByteString>(); bytes && bytes->kind == Value::BytesKind::bytes_io) refuse("a BytesIO");
  if (const auto* sequence = value.as<Value::Sequence>()) {
    if (sequence->kind == Value::SequenceKind::frozenset) refuse("a frozenset");
    for (const Value& item : sequence->items) check_loadable(key, item);
  }
  if (const auto* mapping = value.as<Value::Mapping>()) {
    for (const auto& [name, item] : mapping->items) {
      check_loadable(key, name);
      check_loadable(key, item);
    }
  }
}

}  // namespace

bool is_torch_file(const ByteSource& file) { return begins_with(file, zip_magic) || begins_with(file, legacy_magic); }

TorchFile read_torch_file(const ByteSource& file, const Limits& limits) {
  return parse(file, [&] {
    if (begins_with(file, zip_magic)) return read_zip(file, limits);
    if (begins_with(file, legacy_magic)) return read_legacy(file, limits);
    throw corrupt_at(file, 0, "not a torch.save file");
  });
}

TorchFileLayout::TorchFileLayout(const std::vector<std::pair<KeyPath, Value>>& leaves) {
  for (const auto& [path, value] : leaves) check_loadable(join(path), value);
  const Value nested = unflatten(leaves);
  ValuePickler pickler;
  pickler.put(nested);
  for (const Value::Tensor* tensor : pickler.tensors()) {
    const int64_t bytes = checked_multiply(checked_volume(tensor->sizes), element_bytes(tensor->dtype));
    data_.push_back({tensor->place, tensor->data, 0, bytes});
  }
  pickle_ = pickler.finish();
  const std::vector<uint32_t> unknown(data_.size(), 0);
  // The frame has the length it will have: what is between two parts of it is data.
  const auto parts = frame(unknown);
  for (size_t i = 0; i < data_.size(); ++i) data_[i].offset_bytes = parts[i].first + static_cast<int64_t>(parts[i].second.size());
}

std::vector<std::pair<int64_t, Bytes>> TorchFileLayout::frame(std::span<const uint32_t> crcs) const {
  ZipLayout layout;
  std::vector<std::pair<int64_t, Bytes>> parts;
  ByteWriter part;
  int64_t begin = 0;
  const auto add = [&](const char* name, std::span<const std::byte> bytes) {
    layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), false);
    part.put_raw(layout.header());
    part.put_raw(bytes);
  };
  add("archive/data.pkl", pickle_);
  add("archive/byteorder", as_bytes("little"));
  add("archive/version", as_bytes("3\n"));
  for (size_t i = 0; i < data_.size(); ++i) {
    layout.add("archive/data/" + std::to_string(i), data_[i].size_bytes, crcs[i], true);
    part.put_raw(layout.header());
    parts.emplace_back(begin, part.take());
    part = ByteWriter();
    begin = layout.end();
  }
  part.put_raw(layout.directory());
  parts.emplace_back(begin, part.take());
  return parts;
}

}  // namespace tessera::format
