#include "tessera/format/dcp.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "tessera/format/archive.h"
#include "tessera/format/dcp_names.h"
#include "tessera/format/nested.h"
#include "tessera/format/pickle.h"

namespace tessera::format {
namespace {

using Kind = Node::Kind;

constexpr int newest_version = 1;
constexpr size_t most_dims = 64;
constexpr size_t most_fields = 32;  // stock has five at most

Error bad(std::string what, Code code = Code::corrupt) { return Error({.code = code, .what = std::move(what), .file = metadata_file}); }

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

// A class by its name. A pickle names it once and refers to it from then on, so that it is nearly always known again by its node.
class Callee {
 public:
  explicit Callee(const char* spelling) : spelling_(spelling) {}
  const char* spelling() const { return spelling_; }
  // True if the node is such an object, and nothing was done to it that none of torch's pickles do.
  bool made(const Node& node) {
    const bool plain = node.kind == Kind::object || (node.kind == Kind::call && !node.state());
    return plain && is(node.callee()) && !node.altered();
  }

 private:
  bool is(const Node& global) {
    if (&global == known_) return true;
    if (!global.is_global(spelling_)) return false;
    known_ = &global;
    return true;
  }
  const char* spelling_;
  const Node* known_ = nullptr;
};

// The records of one class, written as NEWOBJ + BUILD or as a constructor call.
class RecordClass {
 public:
  RecordClass(const char* type, std::initializer_list<std::string_view> constructor) : type_(type), count_(constructor.size()) {
    assert(count_ <= most);
    std::ranges::copy(constructor, names_.begin());
  }
  bool made(const Node& node) { return type_.made(node); }

  // A record's fields, in the order of the constructor's arguments: null where one is absent or None.
  static constexpr size_t most = 5;
  using Fields = std::array<const Node*, most>;
  Fields fields(const Node& node) {
    if (!made(node) || !node.set().empty())
      throw bad((node.is_made() ? quoted(made_by(node)) : "a plain value") + " where a " + spelling() + " belongs");
    Fields fields{};
    const Node::Items arguments = node.items();
    if (node.kind == Kind::call) {
      if (arguments.size() > count_) throw bad("too many arguments for a " + spelling());
      std::ranges::copy(arguments, fields.begin());
    } else {
      if (!arguments.empty()) throw bad("a " + spelling() + " made in an unknown way");
      if (node.state()) read_state(*node.state(), fields);
    }
    for (const Node*& field : fields) {
      if (field && field->kind == Kind::none) field = nullptr;
    }
    return fields;
  }
  // A field that must be there, and of that kind.
  const Node& at(const Fields& fields, size_t field, Kind kind) const {
    if (!fields[field] || fields[field]->kind != kind) throw bad("a missing or unexpected " + quoted(names_[field]));
    return *fields[field];
  }
  const Node& at(const Fields& fields, size_t field) const {
    if (!fields[field]) throw bad("a missing " + quoted(names_[field]));
    return *fields[field];
  }

 private:
  std::string spelling() const { return type_.spelling(); }

  void read_state(const Node& state, Fields& fields) {
    if (state.kind != Kind::dict) throw bad("a state that is no dict for a " + spelling());
    const Node::Items items = state.items();
    // Nearly always the fields in order; their names are known again by their nodes, as classes are.
    const bool in_order = items.size() <= 2 * count_ && [&] {
      for (size_t i = 0; i < items.size() / 2; ++i) {
        if (items[2 * i] == known_[i]) continue;
        if (items[2 * i]->kind != Kind::text || items[2 * i]->text() != names_[i]) return false;
        known_[i] = items[2 * i];
      }
      return true;
    }();
    if (!in_order) return search_state(items, fields);
    for (size_t i = 0; i < items.size() / 2; ++i) fields[i] = items[2 * i + 1];
  }
  void search_state(Node::Items items, Fields& fields) const {
    if (items.size() > 2 * most_fields) throw bad("too many fields for a " + spelling());
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i]->kind != Kind::text) throw bad("a field whose name is no string");
      for (size_t j = 0; j < i; j += 2) {
        if (items[i]->text() == items[j]->text()) throw bad("a field of a " + spelling() + " twice");
      }
      const auto known = std::ranges::find(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(count_), items[i]->text());
      const auto field = static_cast<size_t>(known - names_.begin());
      if (field < count_) fields[field] = items[i + 1];
    }
  }

  Callee type_;
  size_t count_;
  std::array<std::string_view, most> names_;
  std::array<const Node*, most> known_{};
};

KeyPath path_of(const Node& node, std::string_view key) {
  if (node.kind != Kind::tuple) throw bad("the path of " + quoted(key) + " is no tuple");
  KeyPath path;
  path.reserve(node.items().size());
  for (const Node* element : node.items()) {
    if (element->kind == Kind::text) path.emplace_back(std::string(element->text()));
    else if (element->kind == Kind::integer) path.emplace_back(element->integer());
    else throw bad("the path of " + quoted(key) + " holds what is neither str nor int");
  }
  return path;
}

// "tessera/<version> <save id>".
void read_marker(std::string_view marker, Manifest& manifest) {
  if (marker.empty()) return;
  if (!marker.starts_with(marker_prefix)) throw bad("an unknown name tag before the metadata");
  const size_t space = marker.find(' ');
  const char* const first = marker.data() + marker_prefix.size();
  const char* const last = marker.data() + std::min(space, marker.size());
  const auto [end, failure] = std::from_chars(first, last, manifest.writer_version);
  if (space == std::string_view::npos || failure != std::errc() || end != last || manifest.writer_version < 0)
    throw bad("a damaged tessera name tag");
  if (manifest.writer_version > newest_version) {
    throw Error({.code = Code::unsupported,
                 .what = "written by a newer tessera (" + std::string(marker.substr(0, space)) + ")",
                 .file = metadata_file,
                 .hint = "update tessera to read it"});
  }
  manifest.save_id = marker.substr(space + 1);
}

class Decoder {
 public:
  Manifest decode(const Pickle& pickle) {
    read_marker(pickle.marker(), manifest_);
    const auto root = root_.fields(pickle.root());
    add_entries(root_.at(root, 0, Kind::dict));
    const Node& storage_data = root_.at(root, 2, Kind::dict);
    if (!place_in_order(storage_data)) place_by_search(storage_data);
    if (root[1]) read_paths(root_.at(root, 1, Kind::dict));
    check();
    return std::move(manifest_);
  }

 private:
  // A key, and how much of it has its place. In the order of the file.
  struct Slot {
    std::string_view key;
    Entry* entry = nullptr;
    size_t placed = 0;  // chunks, or 1 for an object
    bool has_path = false;
  };

  // ---- What there is

  // A dict with string keys.
  template <class Work>
  void for_each_item(const Node& dict, Work work) {
    const Node::Items items = dict.items();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i]->kind != Kind::text) throw bad("a key that is no string");
      if (!work(items[i]->text(), *items[i + 1])) throw bad("the key " + quoted(items[i]->text()) + " twice");
    }
  }

  void add_entries(const Node& dict) {
    slots_.reserve(dict.items().size() / 2);
    for_each_item(dict, [&](std::string_view key, const Node& node) {
      const size_t before = manifest_.entries.size();
      const auto at = manifest_.entries.try_emplace(manifest_.entries.end(), std::string(key));
      if (manifest_.entries.size() == before) return false;
      Entry& entry = at->second;
      entry.path.emplace_back(std::string(key));
      if (bytes_.made(node)) {
        bytes_.fields(node);
        entry.is = ObjectEntry{};
      } else {
        entry.is = tensor_of(node, key);
      }
      slots_.push_back({key, &entry});
      return true;
    });
  }

  TensorEntry tensor_of(const Node& node, std::string_view key) {
    const auto record = tensor_.fields(node);
    TensorEntry entry{dtype_of(tensor_.at(record, 0), key), shape_of(tensor_.at(record, 1), key), {}};
    const Node& chunks = tensor_.at(record, 2, Kind::list);
    entry.chunks.reserve(chunks.items().size());
    for (const Node* item : chunks.items()) {
      const auto chunk = chunk_.fields(*item);
      entry.chunks.push_back({{shape_of(chunk_.at(chunk, 0), key), shape_of(chunk_.at(chunk, 1), key)}, {}});
      const Box& box = entry.chunks.back().box;
      if (box.offsets.size() != entry.sizes.size() || box.sizes.size() != entry.sizes.size())
        throw bad("a chunk of " + quoted(key) + " with other dimensions than the tensor");
    }
    return entry;
  }

  DType dtype_of(const Node& properties, std::string_view key) {
    const Node* dtype = nullptr;
    const bool known = properties_.made(properties) || old_properties_.made(properties);
    if (known && properties.kind == Kind::call && !properties.items().empty()) dtype = properties.items()[0];
    const Node* const state = known && properties.kind == Kind::object ? properties.state() : nullptr;
    if (state && state->kind == Kind::tuple && state->items().size() == 5) dtype = state->items()[0];
    if (!dtype || dtype->module() != "torch") throw bad("the properties of " + quoted(key) + " are not torch's");
    const auto named = dtype_named(dtype->name());
    if (!named) throw bad("the dtype '" + dtype->global() + "' of " + quoted(key), Code::unsupported);
    return *named;
  }

  // The items of a tuple of ints, or of torch.Size of one.
  Node::Items ints_of(const Node& node, std::string_view key) {
    const bool size = node.kind == Kind::call && size_.made(node) && node.set().empty() && node.items().size() == 1;
    const Node& tuple = size ? *node.items()[0] : node;
    const auto is_int = [](const Node* item) { return item->kind == Kind::integer; };
    if (tuple.kind != Kind::tuple || !std::ranges::all_of(tuple.items(), is_int))
      throw bad("a shape of " + quoted(key) + " that is no tuple of ints");
    if (tuple.items().size() > most_dims) throw bad("a shape of " + quoted(key) + " of more than 64 dimensions");
    return tuple.items();
  }
  Sizes shape_of(const Node& node, std::string_view key) {
    const Node::Items ints = ints_of(node, key);
    Sizes sizes(ints.size());
    std::ranges::transform(ints, sizes.begin(), &Node::integer);
    return sizes;
  }

  // ---- Where it is

  Extent extent_of(const Node& node) {
    const auto record = info_.fields(node);
    Extent at{std::string(info_.at(record, 0, Kind::text).text()),
              info_.at(record, 1, Kind::integer).integer(),
              info_.at(record, 2, Kind::integer).integer(),
              {}};
    if (const Node* transforms = record[3]) {
      if (transforms->kind != Kind::list) throw bad("transforms that are no list");
      for (const Node* transform : transforms->items()) {
        if (transform->kind != Kind::text) throw bad("a transform whose name is no string");
        at.transforms.emplace_back(transform->text());
      }
    }
    return at;
  }

  // The slot of a key, most likely `guess` or the one behind it. Null where there is none.
  Slot* find_slot(std::string_view key, size_t guess) {
    for (size_t i = guess; i < std::min(guess + 2, slots_.size()); ++i) {
      if (slots_[i].key == key) return &slots_[i];
    }
    if (slot_of_.empty()) {
      slot_of_.reserve(slots_.size());
      for (size_t i = 0; i < slots_.size(); ++i) slot_of_.emplace(slots_[i].key, i);
    }
    const auto known = slot_of_.find(key);
    return known == slot_of_.end() ? nullptr : &slots_[known->second];
  }

  // Every writer that we know lists the places of a key's chunks in the order of the chunks, and these by their offsets. True where it is
  // so to the end, each chunk having one place and each place being one chunk's.
  bool place_in_order(const Node& storage_data) {
    const Node::Items items = storage_data.items();
    size_t guess = 0;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const auto index = index_.fields(*items[i]);
      Slot* const slot = find_slot(index_.at(index, 0, Kind::text).text(), guess);
      if (!slot) return false;
      guess = static_cast<size_t>(slot - slots_.data());
      Extent* const at = next_place(*slot, index[1]);
      if (!at) return false;
      *at = extent_of(*items[i + 1]);
    }
    return std::ranges::all_of(slots_, [](const Slot& slot) {
      const auto* tensor = std::get_if<TensorEntry>(&slot.entry->is);
      return slot.placed == (tensor ? tensor->chunks.size() : 1);
    });
  }
  // The next place of a key, if it has that offset. Null if it has another, or has all.
  Extent* next_place(Slot& slot, const Node* offset) {
    if (auto* object = std::get_if<ObjectEntry>(&slot.entry->is)) return offset || slot.placed++ > 0 ? nullptr : &object->at;
    auto& chunks = std::get<TensorEntry>(slot.entry->is).chunks;
    if (!offset || slot.placed >= chunks.size()) return nullptr;
    const Sizes& own = chunks[slot.placed].box.offsets;
    if (!std::ranges::equal(ints_of(*offset, slot.key), own, {}, &Node::integer)) return nullptr;
    if (slot.placed > 0 && chunks[slot.placed - 1].box.offsets >= own) return nullptr;
    return &chunks[slot.placed++].at;
  }

  // Where the chunks of each key are stored, by their offset; an object has one place, without an offset.
  struct Place {
    std::optional<Sizes> offset;
    Extent at;
  };
  using Places = std::unordered_map<std::string_view, std::vector<Place>>;

  void place_by_search(const Node& storage_data) {
    Places places;
    const Node::Items items = storage_data.items();
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const auto index = index_.fields(*items[i]);
      const std::string_view key = index_.at(index, 0, Kind::text).text();
      std::optional<Sizes> offset;
      if (index[1]) offset = shape_of(*index[1], key);
      places[key].push_back({std::move(offset), extent_of(*items[i + 1])});
    }
    for (auto& [key, of_key] : places) {
      std::ranges::sort(of_key, {}, &Place::offset);
      if (std::ranges::adjacent_find(of_key, {}, &Place::offset) != of_key.end()) throw bad("two places for one chunk of " + quoted(key));
    }
    for (const Slot& slot : slots_) place(slot, places);
  }
  static void place(const Slot& slot, const Places& places) {
    static const std::vector<Place> nowhere;
    const auto known = places.find(slot.key);
    const std::vector<Place>& of_key = known == places.end() ? nowhere : known->second;
    const auto find = [&](const std::optional<Sizes>& offset) {
      const auto found = std::ranges::lower_bound(of_key, offset, {}, &Place::offset);
      if (found == of_key.end() || found->offset != offset) throw bad("no place in any file for " + quoted(slot.key));
      return found->at;
    };
    if (auto* object = std::get_if<ObjectEntry>(&slot.entry->is)) {
      object->at = find(std::nullopt);
      return;
    }
    for (Chunk& chunk : std::get<TensorEntry>(slot.entry->is).chunks) chunk.at = find(chunk.box.offsets);
  }

  // ---- How it is nested

  void read_paths(const Node& planner_data) {
    size_t next = 0;
    for_each_item(planner_data, [&](std::string_view key, const Node& node) {
      Slot* const slot = find_slot(key, next);
      if (!slot) return spare_paths_.emplace(key, path_of(node, key)).second;
      next = static_cast<size_t>(slot - slots_.data()) + 1;
      if (slot->has_path) return false;
      slot->entry->path = path_of(node, key);
      return slot->has_path = true;
    });
  }

  void check_nesting() const {
    const auto is_flat = [](const auto& entry) { return is_own_path(entry.first, entry.second.path); };
    if (spare_paths_.empty() && std::ranges::all_of(manifest_.entries, is_flat)) return;
    std::map<std::string, const KeyPath*> paths;
    for (const auto& [key, entry] : manifest_.entries) paths.emplace_hint(paths.end(), key, &entry.path);
    // Paths of keys that hold nothing count too: they say what the nesting is.
    for (const auto& [key, path] : spare_paths_) paths.emplace(key, &path);
    check_paths(paths, Code::corrupt);
  }

  void check() {
    try {
      check_nesting();
      validate(manifest_);
    } catch (const Error& error) {
      Fault fault = error.fault();
      if (fault.file.empty()) fault.file = metadata_file;
      throw Error(std::move(fault));
    }
  }

  RecordClass root_{metadata_class, {"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"}};
  RecordClass tensor_{tensor_class, {"properties", "size", "chunks"}};
  RecordClass bytes_{bytes_class, {}};
  RecordClass chunk_{chunk_class, {"offsets", "sizes"}};
  RecordClass index_{index_class, {"fqn", "offset", "index"}};
  RecordClass info_{info_class, {"relative_path", "offset", "length", "transform_descriptors"}};
  Callee properties_{properties_class};
  Callee old_properties_{old_properties_class};
  Callee size_{"torch Size"};

  Manifest manifest_;
  std::vector<Slot> slots_;
  std::unordered_map<std::string_view, size_t> slot_of_;  // made when a guess fails
  std::map<std::string, KeyPath> spare_paths_;
};

Manifest decode(std::span<const std::byte> bytes, const Limits& limits) {
  if (static_cast<int64_t>(bytes.size()) > limits.metadata_bytes) throw bad("the metadata is too large", Code::limit);
  const Pickle pickle(bytes, {limits.nodes, limits.depth}, metadata_file);
  return Decoder().decode(pickle);
}

}  // namespace

Manifest decode_metadata(std::span<const std::byte> bytes, const Limits& limits, const std::string& file) {
  try {
    return decode(bytes, limits);
  } catch (const Error& error) {
    Fault fault = error.fault();
    if (fault.file == metadata_file) fault.file = file;
    throw Error(std::move(fault));
  }
}

}  // namespace tessera::format
