#include "tessera/checkpoint/head.h"

#include <algorithm>
#include <optional>
#include <set>

#include "tessera/checkpoint/catalog.h"
#include "tessera/format/dcp.h"
#include "tessera/format/nested.h"
#include "tessera/format/sidecar_reader.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

Error bad(std::string what, const std::string& file) { return Error({.code = Code::corrupt, .what = std::move(what), .file = file}); }

std::string hint_for(const Storage& storage, const Path& directory) {
  if (!storage.exists(directory)) return "there is no such directory below " + storage.root();
  for (const DirectoryEntry& entry : storage.list(directory)) {
    if (entry.is_directory && step_named(entry.name)) return "it is a root of steps; name one of them, as in " + entry.name;
  }
  return "a checkpoint is a directory with a " + std::string(format::metadata_file) + " in it";
}

std::unique_ptr<ByteSource> open_metadata(const Storage& storage, const Path& directory) {
  try {
    return storage.open(below(directory, format::metadata_file));
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    const auto hint = capture([&] { return hint_for(storage, directory); });
    throw Error({.code = Code::not_found,
                 .what = "no checkpoint",
                 .file = directory.empty() ? storage.root() : directory,
                 .hint = hint ? *hint.value : ""});
  }
}

Bytes read_whole(const ByteSource& file, const Path& path, int64_t most_bytes) {
  if (file.size_bytes() > most_bytes) throw Error({.code = Code::limit, .what = "the file is too large", .file = path});
  Bytes bytes(static_cast<size_t>(file.size_bytes()));
  file.read(0, bytes);
  return bytes;
}

Error not_published() { return bad("it is not the file that was published with the sidecar beside it", format::metadata_file); }

void check_extent(const format::Sidecar& sidecar, const std::string& key, const Extent& at) {
  const auto found = sidecar.files.find(at.file);
  if (found == sidecar.files.end())
    throw bad("'" + key + "' lies in '" + at.file + "', which the sidecar does not know", format::metadata_file);
  if (at.offset_bytes > found->second.length_bytes - at.length_bytes) {
    throw bad(
        "'" + key + "' ends beyond '" + at.file + "', which was published with " + std::to_string(found->second.length_bytes) + " bytes",
        format::metadata_file);
  }
}

void check_files(const Manifest& manifest, const format::Sidecar& sidecar) {
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) check_extent(sidecar, key, object->at);
    else
      for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) check_extent(sidecar, key, chunk.at);
  }
}

// The files that the manifest names.
std::set<std::string> files_of(const Manifest& manifest) {
  std::set<std::string> files;
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) files.insert(object->at.file);
    else
      for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) files.insert(chunk.at.file);
  }
  return files;
}

// By its length and its two ends.
void check_metadata(const ByteSource& metadata, const format::Sidecar& sidecar) {
  if (metadata.size_bytes() != sidecar.metadata_bytes) throw not_published();
  const int64_t first = std::min(metadata.size_bytes(), format::end_bytes);
  const int64_t last = std::min(metadata.size_bytes() - first, format::end_bytes);
  Bytes ends(static_cast<size_t>(first + last));
  metadata.read(0, std::span(ends).first(static_cast<size_t>(first)));
  metadata.read(metadata.size_bytes() - last, std::span(ends).last(static_cast<size_t>(last)));
  if (format::digest_of_ends(ends) != sidecar.metadata_ends) throw not_published();
}

// Of some keys, what `.metadata` is held to of all.
void check_nesting(const Manifest& manifest) {
  std::map<std::string, const KeyPath*> paths;
  for (const auto& [key, entry] : manifest.entries) {
    if (!format::is_own_path(key, entry.path)) paths.emplace(key, &entry.path);
  }
  format::check_paths(paths, Code::corrupt);
}

// Nothing where there is no index.
std::optional<Head> find_in_sidecar(const Storage& storage, const Path& directory, std::span<const std::string> keys,
                                    const format::Limits& limits) {
  const Path path = below(directory, format::sidecar_file);
  if (!storage.exists(path)) return std::nullopt;
  const auto file = storage.open(path);
  if (file->size_bytes() > limits.metadata_bytes) throw Error({.code = Code::limit, .what = "the file is too large", .file = path});
  if (format::SidecarReader::version(*file) != format::sidecar_version) return std::nullopt;
  const format::SidecarReader reader(*file);
  if (!reader.has_index()) return std::nullopt;
  check_metadata(*open_metadata(storage, directory), reader.head());
  Head head;
  head.manifest.writer_version = format::promised_since;
  head.manifest.save_id = reader.head().save_id;
  for (const std::string& key : keys) {
    if (auto entry = reader.find(key)) head.manifest.entries.emplace(key, std::move(*entry));
  }
  try {
    check_nesting(head.manifest);
    validate(head.manifest);
    head.sidecar = std::make_shared<const format::Sidecar>(reader.with(files_of(head.manifest)));
    check_files(head.manifest, *head.sidecar);
  } catch (const Error& error) {
    Fault fault = error.fault();
    fault.file = format::sidecar_file;  // whose index it is, whatever the check thinks
    throw Error(std::move(fault));
  }
  return head;
}

}  // namespace

Bytes read_file(const Storage& storage, const Path& path, int64_t most_bytes) { return read_whole(*storage.open(path), path, most_bytes); }

HeadBytes read_head(const Storage& storage, const Path& directory, const format::Limits& limits) {
  HeadBytes bytes{read_whole(*open_metadata(storage, directory), below(directory, format::metadata_file), limits.metadata_bytes), {}};
  const Path sidecar = below(directory, format::sidecar_file);
  if (storage.exists(sidecar)) {
    bytes.sidecar = read_file(storage, sidecar, limits.metadata_bytes);
    // Empty means none to decode_head(); a file without bytes is not none.
    if (bytes.sidecar.empty()) throw bad("file ends early", sidecar);
  }
  return bytes;
}

Head decode_head(const HeadBytes& bytes, const format::Limits& limits) {
  Head head;
  // The sidecar comes first, so that damage to `.metadata` is told as such before a byte of it is parsed.
  if (!bytes.sidecar.empty()) {
    auto sidecar = format::decode_sidecar(bytes.sidecar);
    const bool same = sidecar.metadata_bytes == static_cast<int64_t>(bytes.metadata.size()) && sidecar.metadata == digest(bytes.metadata);
    if (!same) throw not_published();
    head.sidecar = std::make_shared<const format::Sidecar>(std::move(sidecar));
  }
  head.manifest = format::decode_metadata(bytes.metadata, limits);
  if (!head.sidecar) {
    if (head.manifest.writer_version < format::promised_since) return head;
    throw Error({.code = Code::corrupt,
                 .what = "the sidecar of this checkpoint is missing",
                 .file = format::sidecar_file,
                 .hint = "a copy that left hidden files out loses it: bring it back from the original"});
  }
  if (head.manifest.save_id != head.sidecar->save_id) throw bad("the sidecar is of another save", format::sidecar_file);
  check_files(head.manifest, *head.sidecar);
  return head;
}

Head read_head_of(const Storage& storage, const Path& directory, std::span<const std::string> keys, const format::Limits& limits) {
  if (auto found = find_in_sidecar(storage, directory, keys, limits)) return std::move(*found);
  Head head = decode_head(read_head(storage, directory, limits), limits);
  Manifest manifest = std::move(head.manifest);
  head.manifest = {.entries = {}, .writer_version = manifest.writer_version, .save_id = manifest.save_id};
  for (const std::string& key : keys) {
    if (auto entry = manifest.entries.extract(key)) head.manifest.entries.insert(std::move(entry));
  }
  return head;
}

}  // namespace tessera
