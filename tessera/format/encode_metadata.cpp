#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <string>

#include "tessera/format/dcp.h"
#include "tessera/format/dcp_names.h"
#include "tessera/format/nested.h"
#include "tessera/format/pickle_writer.h"

namespace tessera::format {
namespace {

std::string marker_of(int version, const std::string& save_id) {
  return std::string(marker_prefix) + std::to_string(version) + " " + save_id;
}

// What we write we must read again, and nothing before this has looked at the nesting.
void check_encodable(const Manifest& manifest) {
  const auto is_flat = [](const auto& entry) { return entry.second.path.empty() || is_own_path(entry.first, entry.second.path); };
  if (std::ranges::all_of(manifest.entries, is_flat)) return;
  std::map<std::string, const KeyPath*> paths;
  std::deque<KeyPath> own;
  for (const auto& [key, entry] : manifest.entries) paths.emplace(key, entry.path.empty() ? &own.emplace_back(KeyPath{key}) : &entry.path);
  check_paths(paths, Code::invalid_argument);
}

class MetadataEncoder {
 public:
  explicit MetadataEncoder(const Manifest& manifest) : manifest_(manifest) { out_.reserve(expected_bytes(manifest)); }

  Bytes run() {
    if (manifest_.writer_version >= 0) out_.marker(marker_of(manifest_.writer_version, manifest_.save_id));
    out_.global(metadata_class);
    out_.mark();
    put_dict([&](const std::string& key, const Entry& entry) {
      out_.text(key);
      put_record(entry);
    });
    put_dict([&](const std::string& key, const Entry& entry) {
      out_.text(key);
      put_path(key, entry.path);
    });
    put_dict([&](const std::string& key, const Entry& entry) { put_places(key, entry); });
    out_.tuple();
    out_.reduce();
    return out_.finish();
  }

 private:
  // More rather than less: memory that is never touched costs nothing.
  static size_t expected_bytes(const Manifest& manifest) {
    size_t bytes = 4096;
    for (const auto& [key, entry] : manifest.entries) {
      bytes += 100 + 3 * key.size();
      const auto* tensor = std::get_if<TensorEntry>(&entry.is);
      if (!tensor || tensor->chunks.empty()) continue;
      bytes += tensor->chunks.size() * (60 + key.size() + tensor->chunks.back().at.file.size() + 15 * tensor->sizes.size());
    }
    return bytes;
  }

  template <class Item>
  void put_dict(Item item) {
    out_.empty_dict();
    out_.mark();
    for (const auto& [key, entry] : manifest_.entries) item(key, entry);
    out_.set_items();
  }

  void put_size(const Sizes& sizes) {
    out_.global(size_);
    out_.integers(sizes);
    out_.tuple1();
    out_.reduce();
  }

  void put_record(const Entry& entry) {
    const auto* tensor = std::get_if<TensorEntry>(&entry.is);
    if (!tensor) {
      out_.global(bytes_class);
      out_.empty_tuple();
      out_.reduce();
      return;
    }
    out_.global(tensor_class);
    out_.mark();
    out_.global(properties_class);
    out_.global("torch " + std::string(name(tensor->dtype)));
    out_.tuple1();
    out_.reduce();
    put_size(tensor->sizes);
    out_.empty_list();
    out_.mark();
    for (const Chunk& chunk : tensor->chunks) {
      out_.global(chunk_);
      put_size(chunk.box.offsets);
      put_size(chunk.box.sizes);
      out_.tuple2();
      out_.reduce();
    }
    out_.appends();
    out_.tuple();
    out_.reduce();
  }

  void put_path(const std::string& key, const KeyPath& path) {
    out_.mark();
    if (path.empty()) out_.text(key);
    for (const PathElement& element : path) {
      if (const auto* index = std::get_if<int64_t>(&element)) out_.integer(*index);
      else out_.text(std::get<std::string>(element));
    }
    out_.tuple();
  }

  void put_places(const std::string& key, const Entry& entry) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) return put_place(key, nullptr, 0, object->at);
    const auto& chunks = std::get<TensorEntry>(entry.is).chunks;
    for (size_t i = 0; i < chunks.size(); ++i) put_place(key, &chunks[i].box.offsets, i, chunks[i].at);
  }

  void put_place(const std::string& key, const Sizes* offset, size_t index, const Extent& at) {
    out_.global(index_);
    out_.mark();
    out_.text(key);
    if (offset) {
      put_size(*offset);
      out_.integer(static_cast<int64_t>(index));
    } else {
      out_.none();
      out_.none();
    }
    out_.tuple();
    out_.reduce();
    out_.global(info_);
    out_.mark();
    out_.text(at.file);
    out_.integer(at.offset_bytes);
    out_.integer(at.length_bytes);
    if (!at.transforms.empty()) {
      out_.empty_list();
      out_.mark();
      for (const std::string& transform : at.transforms) out_.text(transform);
      out_.appends();
    }
    out_.tuple();
    out_.reduce();
  }

  const Manifest& manifest_;
  PickleWriter out_;
  PickleGlobal size_{"torch Size"}, chunk_{chunk_class}, index_{index_class}, info_{info_class};
};

}  // namespace

Bytes encode_metadata(const Manifest& manifest) {
  check_encodable(manifest);
  return MetadataEncoder(manifest).run();
}

// PROTO 2, BINUNICODE, its length, the marker, POP: PickleWriter has written it so.
void set_save_id(Bytes& metadata, const std::string& save_id) {
  constexpr size_t text_at = 7;
  const auto refuse = [] { throw Error({.code = Code::invalid_argument, .what = "metadata that names no save"}); };
  if (metadata.size() < text_at || metadata[2] != std::byte{'X'}) refuse();
  uint32_t length = 0;
  std::memcpy(&length, metadata.data() + text_at - sizeof length, sizeof length);
  if (length > metadata.size() - text_at) refuse();
  const std::string_view marker = as_text(metadata).substr(text_at, length);
  const size_t space = marker.find(' ');
  if (!marker.starts_with(marker_prefix) || space == std::string_view::npos) refuse();
  PickleWriter out;
  out.marker(std::string(marker.substr(0, space + 1)) + save_id);
  const Bytes head = out.finish();  // with a STOP that does not belong here
  const auto end = [](const Bytes& bytes, size_t at) { return bytes.begin() + static_cast<std::ptrdiff_t>(at); };
  const size_t old_end = text_at + length;
  const size_t new_end = head.size() - 2;
  if (new_end > old_end) metadata.insert(end(metadata, old_end), new_end - old_end, std::byte{0});
  else metadata.erase(end(metadata, new_end), end(metadata, old_end));
  std::copy(head.begin(), end(head, new_end), metadata.begin());
}

}  // namespace tessera::format
