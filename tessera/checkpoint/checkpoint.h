// tessera/checkpoint/checkpoint.h: one checkpoint directory, open for reading by one process alone, without ranks.
// Opening reads the metadata only. Reading touches only the bytes that are asked for.
// Errors      Error(not_found) where there is no checkpoint, Error(corrupt, unsupported, limit) with file and offset where
//             there is a bad one. After a failed read the destination's content is undefined.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <memory>
#include <string>

#include "tessera/layout/box.h"
#include "tessera/layout/value.h"
#include "tessera/layout/view.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"

namespace tessera {

class Checkpoint {
 public:
  // A directory of the local file system.
  static Checkpoint open(const std::string& directory);
  // A directory below any storage; "" is the storage's root.
  static Checkpoint open(std::shared_ptr<const Storage> storage, Path directory);

  const Manifest& manifest() const { return manifest_; }
  // Fills `into` (sizes as the box, dtype as the tensor) with that part of the tensor, bit for bit.
  // Error(not_found) for a key that is no tensor of this checkpoint, Error(invalid_argument) for a box outside it.
  void read(const std::string& key, const Box& box, const View& into) const;
  // The object under `key`.
  Value object(const std::string& key) const;

 private:
  Checkpoint(std::shared_ptr<const Storage> storage, Path directory, Manifest manifest);
  std::shared_ptr<const Storage> storage_;
  Path directory_;
  Manifest manifest_;
};

}  // namespace tessera
