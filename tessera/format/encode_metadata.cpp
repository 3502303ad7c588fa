#include <deque>
#include <map>
#include <string>

#include "tessera/format/dcp.h"
#include "tessera/format/dcp_names.h"
#include "tessera/format/nested.h"
#include "tessera/format/pickle_writer.h"

namespace tessera::format {
namespace {

void put_size(PickleWriter& out, const Sizes& sizes) {
  out.global("torch Size");
  out.integers(sizes);
  out.tuple1();
  out.reduce();
}

void put_tensor_record(PickleWriter& out, const TensorEntry& entry) {
  out.global(tensor_class);
  out.mark();
  out.global(properties_class);
  out.global("torch " + std::string(name(entry.dtype)));
  out.tuple1();
  out.reduce();
  put_size(out, entry.sizes);
  out.empty_list();
  out.mark();
  for (const Chunk& chunk : entry.chunks) {
    out.global(chunk_class);
    put_size(out, chunk.box.offsets);
    put_size(out, chunk.box.sizes);
    out.tuple2();
    out.reduce();
  }
  out.appends();
  out.tuple();
  out.reduce();
}

void put_place(PickleWriter& out, const std::string& key, const Sizes* offset, size_t index, const Extent& at) {
  out.global(index_class);
  out.mark();
  out.text(key);
  if (offset) {
    put_size(out, *offset);
    out.integer(static_cast<int64_t>(index));
  } else {
    out.none();
    out.none();
  }
  out.tuple();
  out.reduce();
  out.global(info_class);
  out.mark();
  out.text(at.file);
  out.integer(at.offset_bytes);
  out.integer(at.length_bytes);
  if (!at.transforms.empty()) {
    out.empty_list();
    out.mark();
    for (const std::string& transform : at.transforms) out.text(transform);
    out.appends();
  }
  out.tuple();
  out.reduce();
}

void put_path(PickleWriter& out, const KeyPath& path) {
  out.mark();
  for (const PathElement& element : path) {
    if (const auto* index = std::get_if<int64_t>(&element)) out.integer(*index);
    else out.text(std::get<std::string>(element));
  }
  out.tuple();
}

// What we write we must read again, and nothing before this has looked at the nesting.
void check_encodable(const Manifest& manifest) {
  std::map<std::string, const KeyPath*> paths;
  std::deque<KeyPath> own;
  for (const auto& [key, entry] : manifest.entries) paths.emplace(key, entry.path.empty() ? &own.emplace_back(KeyPath{key}) : &entry.path);
  check_paths(paths, Code::invalid_argument);
}

}  // namespace

Bytes encode_metadata(const Manifest& manifest) {
  check_encodable(manifest);
  PickleWriter out;
  if (manifest.writer_version >= 0)
    out.marker(std::string(marker_prefix) + std::to_string(manifest.writer_version) + " " + manifest.save_id);
  out.global(metadata_class);
  out.mark();
  out.empty_dict();
  out.mark();
  for (const auto& [key, entry] : manifest.entries) {
    out.text(key);
    if (const auto* tensor = std::get_if<TensorEntry>(&entry.is)) {
      put_tensor_record(out, *tensor);
    } else {
      out.global(bytes_class);
      out.empty_tuple();
      out.reduce();
    }
  }
  out.set_items();
  out.empty_dict();
  out.mark();
  for (const auto& [key, entry] : manifest.entries) {
    out.text(key);
    put_path(out, entry.path.empty() ? KeyPath{key} : entry.path);
  }
  out.set_items();
  out.empty_dict();
  out.mark();
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) {
      put_place(out, key, nullptr, 0, object->at);
      continue;
    }
    const auto& chunks = std::get<TensorEntry>(entry.is).chunks;
    for (size_t i = 0; i < chunks.size(); ++i) put_place(out, key, &chunks[i].box.offsets, i, chunks[i].at);
  }
  out.set_items();
  out.tuple();
  out.reduce();
  return out.finish();
}

}  // namespace tessera::format
