// tessera/transfer/open_items.h: the data files of one checkpoint, opened once each, and the items in them, checked against
// the manifest before a byte of data is read.
// Errors      Error(not_found, corrupt, unsupported, io) with file and offset.
// Threads     Safe to use from many threads.
#pragma once

#include <map>
#include <memory>

#include "tessera/base/guarded.h"
#include "tessera/format/item.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"

namespace tessera {

// A tensor item that is as the manifest says.
struct OpenItem {
  std::shared_ptr<const ByteSource> file;
  std::shared_ptr<const ByteSource> item;  // a part of `file`
  format::TensorItem tensor;
};

class OpenItems {
 public:
  // Both outlive this.
  OpenItems(const Storage& storage, Path directory) : storage_(storage), directory_(std::move(directory)) {}

  OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk);
  Value object(const std::string& key, const ObjectEntry& entry);

 private:
  std::shared_ptr<const ByteSource> file(const std::string& name);
  PartSource part(const std::string& key, const ByteSource& file, const Extent& at) const;

  const Storage& storage_;
  const Path directory_;
  Guarded<std::map<std::string, std::shared_ptr<const ByteSource>>> files_;
};

}  // namespace tessera
