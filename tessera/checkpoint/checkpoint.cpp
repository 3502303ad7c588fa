#include "tessera/checkpoint/checkpoint.h"

#include "tessera/checkpoint/metadata.h"
#include "tessera/checkpoint/place.h"
#include "tessera/format/dcp.h"
#include "tessera/plan/load_plan.h"
#include "tessera/transfer/open_items.h"
#include "tessera/transfer/read_box.h"

namespace tessera {
namespace {

template <class T>
const T& entry_of(const Manifest& manifest, const std::string& key, const char* kind) {
  const auto found = manifest.entries.find(key);
  const T* entry = found == manifest.entries.end() ? nullptr : std::get_if<T>(&found->second.is);
  if (!entry) throw Error({.code = Code::not_found, .what = "the checkpoint has no " + std::string(kind) + " '" + key + "'"});
  return *entry;
}

}  // namespace

Checkpoint::Checkpoint(std::shared_ptr<const Storage> storage, Path directory, Manifest manifest)
    : storage_(std::move(storage)), directory_(std::move(directory)), manifest_(std::move(manifest)) {}

Checkpoint Checkpoint::open(const std::string& directory) {
  const Place place = place_of(directory);
  return open(std::make_shared<LocalStorage>(place.parent), place.name);
}

Checkpoint Checkpoint::open(std::shared_ptr<const Storage> storage, Path directory) {
  Manifest manifest = format::decode_metadata(read_metadata(*storage, directory));
  return Checkpoint(std::move(storage), std::move(directory), std::move(manifest));
}

void Checkpoint::read(const std::string& key, const Box& box, const View& into) const {
  const auto& entry = entry_of<TensorEntry>(manifest_, key, "tensor");
  if (!fits(box, entry.sizes) || into.sizes != box.sizes || into.strides.size() != box.sizes.size() || into.dtype != entry.dtype) {
    throw Error({.code = Code::invalid_argument,
                 .what = "box " + to_string(box) + " of '" + key + "', which is " + std::string(name(entry.dtype)) + " " +
                         to_string(entry.sizes) + ", does not fit what was asked for"});
  }
  OpenItems items(*storage_, directory_);
  for (const ChunkRead& read : cut(entry, box)) {
    const OpenItem open = items.tensor(key, entry, entry.chunks[read.chunk]);
    read_box(*open.item, open.tensor, read.from, part(into, read.to));
  }
}

Value Checkpoint::object(const std::string& key) const {
  const auto& entry = entry_of<ObjectEntry>(manifest_, key, "object");
  return OpenItems(*storage_, directory_).object(key, entry);
}

}  // namespace tessera
