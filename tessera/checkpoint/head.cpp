#include "tessera/checkpoint/head.h"

#include "tessera/checkpoint/catalog.h"
#include "tessera/format/dcp.h"
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

Bytes read_metadata(const Storage& storage, const Path& directory, const format::Limits& limits) {
  try {
    return read_file(storage, below(directory, format::metadata_file), limits.metadata_bytes);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    const auto hint = capture([&] { return hint_for(storage, directory); });
    throw Error({.code = Code::not_found,
                 .what = "no checkpoint",
                 .file = directory.empty() ? storage.root() : directory,
                 .hint = hint ? *hint.value : ""});
  }
}

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

}  // namespace

Bytes read_file(const Storage& storage, const Path& path, int64_t most_bytes) {
  const auto file = storage.open(path);
  if (file->size_bytes() > most_bytes) throw Error({.code = Code::limit, .what = "the file is too large", .file = path});
  Bytes bytes(static_cast<size_t>(file->size_bytes()));
  file->read(0, bytes);
  return bytes;
}

HeadBytes read_head(const Storage& storage, const Path& directory, const format::Limits& limits) {
  HeadBytes bytes{read_metadata(storage, directory, limits), {}};
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
    if (!same) throw bad("it is not the file that was published with the sidecar beside it", format::metadata_file);
    head.sidecar = std::make_shared<const format::Sidecar>(std::move(sidecar));
  }
  head.manifest = format::decode_metadata(bytes.metadata, limits);
  if (!head.sidecar) {
    if (head.manifest.writer_version < format::sidecar_version) return head;
    throw Error({.code = Code::corrupt,
                 .what = "the sidecar of this checkpoint is missing",
                 .file = format::sidecar_file,
                 .hint = "a copy that left hidden files out loses it: bring it back from the original"});
  }
  if (head.manifest.save_id != head.sidecar->save_id) throw bad("the sidecar is of another save", format::sidecar_file);
  check_files(head.manifest, *head.sidecar);
  return head;
}

}  // namespace tessera
