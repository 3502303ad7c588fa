#include "tessera/checkpoint/safetensors_manifest.h"

#include <algorithm>
#include <optional>
#include <set>

#include "tessera/base/checked.h"
#include "tessera/format/safetensors.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

constexpr const char* file_ending = ".safetensors";
constexpr const char* index_ending = ".safetensors.index.json";

std::optional<std::string> index_in(const Storage& storage, const Path& directory) {
  std::optional<std::string> index;
  for (const DirectoryEntry& entry : storage.list(directory)) {
    if (entry.is_directory || !entry.name.ends_with(index_ending)) continue;
    if (index) throw Error({.code = Code::corrupt, .what = "two indices, '" + *index + "' and '" + entry.name + "'", .file = directory});
    index = entry.name;
  }
  return index;
}

format::WeightMap weight_map(const Storage& storage, const Path& directory, const std::string& index, int64_t most_bytes) {
  const auto file = storage.open(below(directory, index));
  if (file->size_bytes() > most_bytes) throw Error({.code = Code::limit, .what = "the index is too large", .file = index});
  Bytes bytes(static_cast<size_t>(file->size_bytes()));
  file->read(0, bytes);
  return format::read_weight_map(bytes, index);
}

// A tensor grows with every box of it that a file has.
void add(Manifest& manifest, const format::SafeTensor& tensor, const Sizes* offsets, const std::string& file) {
  const auto bad = [&](const std::string& what) {
    return Error({.code = Code::corrupt, .what = "'" + tensor.key + "' " + what, .file = file});
  };
  const Chunk chunk{{offsets ? *offsets : Sizes(tensor.sizes.size(), 0), tensor.sizes},
                    {file, tensor.offset_bytes, tensor.length_bytes, {}}};
  const auto [found, fresh] =
      manifest.entries.try_emplace(tensor.key, Entry{{tensor.key}, TensorEntry{tensor.dtype, Sizes(tensor.sizes.size(), 0), {}}});
  auto& entry = std::get<TensorEntry>(found->second.is);
  if (!fresh && !offsets) throw bad("is in two files");
  if (entry.dtype != tensor.dtype || entry.sizes.size() != tensor.sizes.size())
    throw bad("differs in dtype or dimensions from file to file");
  for (size_t d = 0; d < entry.sizes.size(); ++d)
    entry.sizes[d] = std::max(entry.sizes[d], checked_add(chunk.box.offsets[d], chunk.box.sizes[d]));
  entry.chunks.push_back(chunk);
}

// Every key that the index has is in the file that it says.
void check_index(const Manifest& manifest, const format::WeightMap& map, const std::string& index) {
  for (const auto& [key, file] : map) {
    const auto in_file = [&, &name = file](const Chunk& chunk) { return chunk.at.file == name; };
    const auto found = manifest.entries.find(key);
    if (found == manifest.entries.end() || !std::ranges::any_of(std::get<TensorEntry>(found->second.is).chunks, in_file)) {
      throw Error({.code = Code::corrupt, .what = "the index has '" + key + "' in '" + file + "', which lacks it", .file = index});
    }
  }
}

}  // namespace

std::vector<std::string> safetensors_files(const Storage& storage, const Path& directory) {
  std::set<std::string> files;
  if (const auto index = index_in(storage, directory)) {
    for (const auto& [key, file] : weight_map(storage, directory, *index, format::Limits{}.header_bytes)) files.insert(file);
  } else {
    for (const DirectoryEntry& entry : storage.list(directory)) {
      if (!entry.is_directory && entry.name.ends_with(file_ending)) files.insert(entry.name);
    }
  }
  return {files.begin(), files.end()};
}

Manifest safetensors_manifest(const Storage& storage, const Path& directory, const std::vector<std::string>& files, bool with_index,
                              const format::Limits& limits) {
  Manifest manifest;
  for (const std::string& name : files) {
    const auto file = storage.open(below(directory, name));
    const format::SafetensorsFile content = format::read_safetensors(*file, limits);
    for (const format::SafeTensor& tensor : content.tensors) {
      const auto offsets = content.saved_offsets.find(tensor.key);
      add(manifest, tensor, offsets == content.saved_offsets.end() ? nullptr : &offsets->second, name);
    }
  }
  if (const auto index = with_index ? index_in(storage, directory) : std::nullopt)
    check_index(manifest, weight_map(storage, directory, *index, limits.header_bytes), *index);
  validate(manifest);
  return manifest;
}

}  // namespace tessera
