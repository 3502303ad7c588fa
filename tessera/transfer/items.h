// tessera/transfer/items.h: the items of a checkpoint, whatever format it has: where a chunk's elements are, and what an object is.
// Every item is checked against the manifest before a byte of its data is read.
// Errors      Error(not_found, corrupt, unsupported, limit, io) with file and offset, naming the key.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <map>
#include <memory>

#include "tessera/base/guarded.h"
#include "tessera/format/item.h"
#include "tessera/format/limits.h"
#include "tessera/format/torch_file.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"

namespace tessera {

// A tensor item that is as the manifest says.
struct OpenItem {
  std::shared_ptr<const ByteSource> file;
  std::shared_ptr<const ByteSource> item;  // a part of `file`, or what a part of it decompressed to
  format::TensorItem tensor;
};

class Items {
 public:
  virtual ~Items() = default;
  virtual OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) const = 0;
  virtual Value object(const std::string& key, const ObjectEntry& entry) const = 0;
};

// The data files of one checkpoint, opened when they are first needed and kept open, up to a number of them.
class OpenFiles {
 public:
  OpenFiles(std::shared_ptr<const Storage> storage, Path directory) : storage_(std::move(storage)), directory_(std::move(directory)) {}
  std::shared_ptr<const ByteSource> file(const std::string& name) const;

 private:
  const std::shared_ptr<const Storage> storage_;
  const Path directory_;
  mutable Guarded<std::map<std::string, std::shared_ptr<const ByteSource>>> files_;
};

// Of a torch.distributed.checkpoint directory: each item a torch.save archive, plain or as one zstd frame. A data file that is
// safetensors, as FileSystemWriter(serialization_format=SAFETENSORS) writes it, is read as such.
std::shared_ptr<const Items> archive_items(std::shared_ptr<const Storage> storage, Path directory, const format::Limits& limits);
// Of safetensors files: a chunk's extent is its elements.
std::shared_ptr<const Items> raw_items(std::shared_ptr<const Storage> storage, Path directory);
// Of one torch.save file, as it was read.
std::shared_ptr<const Items> torch_items(std::shared_ptr<const ByteSource> file, format::TorchFile content);

}  // namespace tessera
