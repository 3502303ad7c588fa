#include "tessera/checkpoint/metadata.h"

#include "tessera/checkpoint/catalog.h"
#include "tessera/format/dcp.h"

namespace tessera {
namespace {

std::string hint_for(const Storage& storage, const Path& directory) {
  if (!storage.exists(directory)) return "there is no such directory below " + storage.root();
  for (const DirectoryEntry& entry : storage.list(directory)) {
    if (entry.is_directory && step_named(entry.name)) return "it is a root of steps; name one of them, as in " + entry.name;
  }
  return "a checkpoint is a directory with a " + std::string(format::metadata_file) + " in it";
}

}  // namespace

Bytes read_metadata(const Storage& storage, const Path& directory, const format::Limits& limits) {
  const Path path = directory.empty() ? format::metadata_file : directory + "/" + format::metadata_file;
  std::unique_ptr<ByteSource> file;
  try {
    file = storage.open(path);
  } catch (const Error& error) {
    if (error.code() != Code::not_found) throw;
    const auto hint = capture([&] { return hint_for(storage, directory); });
    throw Error({.code = Code::not_found,
                 .what = "no checkpoint",
                 .file = directory.empty() ? storage.root() : directory,
                 .hint = hint ? *hint.value : ""});
  }
  if (file->size_bytes() > limits.metadata_bytes) throw Error({.code = Code::limit, .what = "the metadata is too large", .file = path});
  Bytes bytes(static_cast<size_t>(file->size_bytes()));
  file->read(0, bytes);
  return bytes;
}

}  // namespace tessera
