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
#include "tessera/transfer/checked_source.h"
#include "tessera/transfer/read_box.h"

namespace tessera {

// A tensor item that is as the manifest says.
struct OpenItem {
  std::shared_ptr<const ByteSource> file;
  int64_t begin_bytes = 0;  // of the item in `file`
  int64_t length_bytes = 0;
  std::shared_ptr<const ByteSource> unpacked = {};  // what that part of the file decompressed to, where it was packed
  format::TensorItem tensor = {};
  bool checked = false;  // whatever is read of it was held against the sidecar's digests first
};

// Calls `work` with the item's bytes, as a source of their own.
template <class Work>
auto in_item(const OpenItem& open, Work work) {
  if (open.unpacked) return work(static_cast<const ByteSource&>(*open.unpacked));
  const PartSource part(*open.file, open.begin_bytes, open.length_bytes);
  return work(static_cast<const ByteSource&>(part));
}

// read_box() of an item; bytes that were checked already count as verified.
ReadCount read_item(const OpenItem& open, const Box& from, const View& into, CrcProgress* progress = nullptr);

class Items {
 public:
  virtual ~Items() = default;
  virtual OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) const = 0;
  virtual Value object(const std::string& key, const ObjectEntry& entry) const = 0;
};

// The data files of one checkpoint, opened when they are first needed and kept open, up to a number of them.
class OpenFiles {
 public:
  static constexpr size_t most_open_files = 256;
  // With a sidecar, every file is checked as it is read.
  OpenFiles(std::shared_ptr<const Storage> storage, Path directory, std::shared_ptr<const format::Sidecar> sidecar = {})
      : storage_(std::move(storage)), directory_(std::move(directory)), sidecar_(std::move(sidecar)) {}
  bool checked() const { return sidecar_ != nullptr; }
  std::shared_ptr<const ByteSource> file(const std::string& name) const;

 private:
  const std::shared_ptr<const Storage> storage_;
  const Path directory_;
  const std::shared_ptr<const format::Sidecar> sidecar_;
  const std::shared_ptr<BlockCache> cache_ = std::make_shared<BlockCache>();
  mutable Guarded<std::map<std::string, std::shared_ptr<const ByteSource>>> files_;
};

// What the bytes of a DCP directory are held against.
struct Checks {
  std::shared_ptr<const format::Sidecar> sidecar = {};  // its digests, where there is one
  bool crcs = true;                                     // those of the archives, where there is none and an item is read whole
  bool ours = false;  // archives are as format::item_frame lays them out: where elements are is arithmetic, and no header is read
};

// Of a torch.distributed.checkpoint directory: each item a torch.save archive, plain or as one zstd frame. A data file that is
// safetensors, as FileSystemWriter(serialization_format=SAFETENSORS) writes it, is read as such.
std::shared_ptr<const Items> archive_items(std::shared_ptr<const Storage> storage, Path directory, const format::Limits& limits,
                                           Checks checks = {});
// Of safetensors files: a chunk's extent is its elements.
std::shared_ptr<const Items> raw_items(std::shared_ptr<const Storage> storage, Path directory);
// Of one torch.save file, as it was read.
std::shared_ptr<const Items> torch_items(std::shared_ptr<const ByteSource> file, format::TorchFile content);

}  // namespace tessera
