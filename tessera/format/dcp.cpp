#include "tessera/format/dcp.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <deque>
#include <map>
#include <optional>
#include <set>
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

// True if the node is such an object, and nothing was done to it that none of torch's pickles do.
bool is_a(const Node& node, std::string_view type) {
  const bool made = node.kind == Kind::object || (node.kind == Kind::call && !node.state);
  return made && node.items[0]->kind == Kind::global && node.items[0]->text == type && !node.altered;
}

// A record of a known class, written as NEWOBJ + BUILD or as a constructor call: its fields by name.
class Record {
 public:
  Record(const Node& node, const char* type, std::initializer_list<std::string_view> constructor) {
    if (!is_a(node, type) || !node.set.empty()) {
      const bool made = node.kind == Kind::object || node.kind == Kind::call;
      throw bad((made ? quoted(made_by(node)) : "a plain value") + " where a " + std::string(type) + " belongs");
    }
    const auto& arguments = node.items[1]->items;
    if (node.kind == Kind::call) {
      if (arguments.size() > constructor.size()) throw bad("too many arguments for a " + std::string(type));
      assert(constructor.size() <= names_.size());
      std::ranges::copy(constructor, names_.begin());
      arguments_ = arguments;
      return;
    }
    if (!arguments.empty()) throw bad("a " + std::string(type) + " made in an unknown way");
    if (!node.state) return;
    if (node.state->kind != Kind::dict) throw bad("a state that is no dict for a " + std::string(type));
    state_ = node.state->items;
    if (state_.size() > 2 * most_fields) throw bad("too many fields for a " + std::string(type));
    for (size_t i = 0; i + 1 < state_.size(); i += 2) {
      if (state_[i]->kind != Kind::text) throw bad("a field whose name is no string");
      for (size_t j = 0; j < i; j += 2) {
        if (state_[i]->text == state_[j]->text) throw bad("a field of a " + std::string(type) + " twice");
      }
    }
  }
  // Null where the field is absent or None.
  const Node* find(std::string_view field) const {
    const Node* node = nullptr;
    for (size_t i = 0; i < arguments_.size(); ++i) {
      if (names_[i] == field) node = arguments_[i];
    }
    for (size_t i = 0; i + 1 < state_.size(); i += 2) {
      if (state_[i]->text == field) node = state_[i + 1];
    }
    return !node || node->kind == Kind::none ? nullptr : node;
  }
  const Node& at(const char* field, Kind kind) const {
    const Node* node = find(field);
    if (!node || node->kind != kind) throw bad("a missing or unexpected '" + std::string(field) + "'");
    return *node;
  }
  const Node& at(const char* field) const {
    const Node* node = find(field);
    if (!node) throw bad("a missing '" + std::string(field) + "'");
    return *node;
  }

 private:
  std::array<std::string_view, 5> names_;
  std::span<const Node* const> arguments_;
  std::span<const Node* const> state_;
};

// A dict with string keys, each once.
template <class Work>
void for_each_item(const Node& dict, Work work) {
  std::set<std::string_view> seen;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Node& key = *dict.items[i];
    if (key.kind != Kind::text) throw bad("a key that is no string");
    if (!seen.insert(key.text).second) throw bad("the key " + quoted(key.text) + " twice");
    work(key.text, *dict.items[i + 1]);
  }
}

DType dtype_of(const Node& properties, const std::string& key) {
  const Node* dtype = nullptr;
  const bool known = is_a(properties, properties_class) || is_a(properties, old_properties_class);
  if (known && properties.kind == Kind::call && !properties.items[1]->items.empty()) dtype = properties.items[1]->items[0];
  if (known && properties.kind == Kind::object && properties.state && properties.state->kind == Kind::tuple &&
      properties.state->items.size() == 5)
    dtype = properties.state->items[0];
  if (!dtype || dtype->kind != Kind::global || !dtype->text.starts_with("torch "))
    throw bad("the properties of " + quoted(key) + " are not torch's");
  const auto named = dtype_named(std::string_view(dtype->text).substr(6));
  if (!named) throw bad("the dtype '" + dtype->text + "' of " + quoted(key), Code::unsupported);
  return *named;
}

Sizes shape_of(const Node& node, std::string_view key) {
  auto sizes = sizes_of(node);
  if (!sizes) throw bad("a shape of " + quoted(key) + " that is no tuple of ints");
  if (sizes->size() > most_dims) throw bad("a shape of " + quoted(key) + " of more than 64 dimensions");
  return std::move(*sizes);
}

TensorEntry tensor_of_record(const Node& node, const std::string& key) {
  const Record record(node, tensor_class, {"properties", "size", "chunks"});
  TensorEntry entry{dtype_of(record.at("properties"), key), shape_of(record.at("size"), key), {}};
  for (const Node* item : record.at("chunks", Kind::list).items) {
    const Record chunk(*item, chunk_class, {"offsets", "sizes"});
    entry.chunks.push_back({{shape_of(chunk.at("offsets"), key), shape_of(chunk.at("sizes"), key)}, {}});
    const Box& box = entry.chunks.back().box;
    if (box.offsets.size() != entry.sizes.size() || box.sizes.size() != entry.sizes.size())
      throw bad("a chunk of " + quoted(key) + " with other dimensions than the tensor");
  }
  return entry;
}

// Where the chunks of each key are stored, by their offset; an object has one place, without an offset.
struct Place {
  std::optional<Sizes> offset;
  Extent at;
};
using Places = std::unordered_map<std::string_view, std::vector<Place>>;

Extent extent_of(const Node& node) {
  const Record record(node, info_class, {"relative_path", "offset", "length", "transform_descriptors"});
  Extent at{record.at("relative_path", Kind::text).text,
            record.at("offset", Kind::integer).integer,
            record.at("length", Kind::integer).integer,
            {}};
  if (const Node* transforms = record.find("transform_descriptors")) {
    if (transforms->kind != Kind::list) throw bad("transforms that are no list");
    for (const Node* transform : transforms->items) {
      if (transform->kind != Kind::text) throw bad("a transform whose name is no string");
      at.transforms.push_back(transform->text);
    }
  }
  return at;
}

Places places_of(const Node& storage_data) {
  Places places;
  for (size_t i = 0; i + 1 < storage_data.items.size(); i += 2) {
    const Record index(*storage_data.items[i], index_class, {"fqn", "offset", "index"});
    std::optional<Sizes> offset;
    const std::string& key = index.at("fqn", Kind::text).text;
    if (const Node* node = index.find("offset")) offset = shape_of(*node, key);
    places[key].push_back({std::move(offset), extent_of(*storage_data.items[i + 1])});
  }
  for (auto& [key, of_key] : places) {
    std::ranges::sort(of_key, {}, &Place::offset);
    if (std::ranges::adjacent_find(of_key, {}, &Place::offset) != of_key.end()) throw bad("two places for one chunk of " + quoted(key));
  }
  return places;
}

KeyPath path_of(const Node& node, const std::string& key) {
  if (node.kind != Kind::tuple) throw bad("the path of " + quoted(key) + " is no tuple");
  KeyPath path;
  for (const Node* element : node.items) {
    if (element->kind == Kind::text) path.emplace_back(element->text);
    else if (element->kind == Kind::integer) path.emplace_back(element->integer);
    else throw bad("the path of " + quoted(key) + " holds what is neither str nor int");
  }
  return path;
}

void place(Entry& entry, const std::string& key, const Places& places) {
  static const std::vector<Place> nowhere;
  const auto known = places.find(key);
  const std::vector<Place>& of_key = known == places.end() ? nowhere : known->second;
  const auto find = [&](const std::optional<Sizes>& offset) {
    const auto found = std::ranges::lower_bound(of_key, offset, {}, &Place::offset);
    if (found == of_key.end() || found->offset != offset) throw bad("no place in any file for " + quoted(key));
    return found->at;
  };
  if (auto* object = std::get_if<ObjectEntry>(&entry.is)) {
    object->at = find(std::nullopt);
    return;
  }
  for (Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) chunk.at = find(chunk.box.offsets);
}

// "tessera/<version> <save id>".
void read_marker(const std::string& marker, Manifest& manifest) {
  if (marker.empty()) return;
  if (!marker.starts_with(marker_prefix)) throw bad("an unknown name tag before the metadata");
  const size_t space = marker.find(' ');
  const char* const first = marker.data() + marker_prefix.size();
  const char* const last = marker.data() + std::min(space, marker.size());
  const auto [end, failure] = std::from_chars(first, last, manifest.writer_version);
  if (space == std::string::npos || failure != std::errc() || end != last || manifest.writer_version < 0)
    throw bad("a damaged tessera name tag");
  if (manifest.writer_version > newest_version) {
    throw Error({.code = Code::unsupported,
                 .what = "written by a newer tessera (" + marker.substr(0, space) + ")",
                 .file = metadata_file,
                 .hint = "update tessera to read it"});
  }
  manifest.save_id = marker.substr(space + 1);
}

Manifest decode(std::span<const std::byte> bytes, const Limits& limits) {
  if (static_cast<int64_t>(bytes.size()) > limits.metadata_bytes) throw bad("the metadata is too large", Code::limit);
  const Pickle pickle(bytes, {limits.nodes, limits.depth}, metadata_file);
  Manifest manifest;
  read_marker(pickle.marker(), manifest);
  const Record root(pickle.root(), metadata_class, {"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"});
  for_each_item(root.at("state_dict_metadata", Kind::dict), [&](const std::string& key, const Node& node) {
    Entry& entry = manifest.entries[key];
    entry.path = {key};
    if (is_a(node, bytes_class)) {
      const Record without_fields(node, bytes_class, {});
      entry.is = ObjectEntry{};
    } else {
      entry.is = tensor_of_record(node, key);
    }
  });
  const Places places = places_of(root.at("storage_data", Kind::dict));
  for (auto& [key, entry] : manifest.entries) place(entry, key, places);
  // Paths of keys that hold nothing count too: they say what the nesting is.
  std::map<std::string, KeyPath> planned;
  if (root.find("planner_data")) {
    for_each_item(root.at("planner_data", Kind::dict),
                  [&](const std::string& key, const Node& node) { planned.emplace(key, path_of(node, key)); });
  }
  std::map<std::string, const KeyPath*> paths;
  for (const auto& [key, path] : planned) paths.emplace(key, &path);
  for (auto& [key, entry] : manifest.entries) {
    if (const auto found = planned.find(key); found != planned.end()) entry.path = found->second;
    paths.emplace(key, &entry.path);
  }
  try {
    check_paths(paths, Code::corrupt);
    validate(manifest);
  } catch (const Error& error) {
    Fault fault = error.fault();
    if (fault.file.empty()) fault.file = metadata_file;
    throw Error(std::move(fault));
  }
  return manifest;
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
