// tessera/checkpoint/checkpoint.h: one checkpoint, open for reading by one process alone, without ranks: a DCP directory, safetensors or a
// torch.save file (open.h has the rules). Opening reads the metadata only. Reading touches only the bytes that are asked for.
// Errors      Error(not_found) where there is no checkpoint, Error(corrupt, unsupported, limit) with file and offset where
//             there is a bad one. After a failed read the destination's content is undefined.
// Threads     const methods may be called from many threads at once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tessera/checkpoint/open.h"
#include "tessera/layout/box.h"
#include "tessera/layout/key_filter.h"
#include "tessera/layout/state_dict.h"
#include "tessera/layout/value.h"
#include "tessera/layout/view.h"
#include "tessera/manifest/manifest.h"
#include "tessera/plan/cast_rule.h"
#include "tessera/plan/load_plan.h"
#include "tessera/storage/storage.h"
#include "tessera/transfer/tensor_reader.h"

namespace tessera {

class Checkpoint {
 public:
  // A directory or file of the local file system.
  static Checkpoint open(const std::string& path, const OpenOptions& options = {});
  // One below any storage; "" is the storage's root.
  static Checkpoint open(std::shared_ptr<const Storage> storage, const Path& path, const OpenOptions& options = {});

  Format format() const { return opened_.format; }
  // Key → what it is: dtype, sizes, chunks and where they are, or an object.
  const Manifest& manifest() const { return opened_.manifest; }
  std::vector<std::string> keys(const KeyFilter& filter = {}) const;
  // What a key is. Error(not_found) where it is no tensor of this checkpoint.
  const TensorEntry& tensor(const std::string& key) const;
  // The keys of objects.
  std::vector<std::string> objects() const;

  // Fills `into` (sizes as the box) with that part of the tensor, bit for bit, or converted where into.dtype is another.
  // Error(not_found) for a key that is no tensor of this checkpoint, Error(invalid_argument) for a box outside it or a dtype that it
  // does not convert to (plan/load_plan.h can_cast).
  void read(const std::string& key, const Box& box, const View& into) const;
  // The same for box after box of one tensor. The checkpoint outlives the reader.
  TensorReader reader(const std::string& key) const;
  // The object under `key`.
  Value object(const std::string& key) const;
  // Everything that the filter takes, in memory of its own, each tensor whole.
  StateDict load(const KeyFilter& filter = {}, const std::vector<CastRule>& casts = {}) const;
  // The same checkpoint under other names (rename.h).
  Checkpoint renamed(const std::vector<Rename>& rules) const;

 private:
  explicit Checkpoint(Opened opened) : opened_(std::move(opened)) {}
  Opened opened_;
};

}  // namespace tessera
