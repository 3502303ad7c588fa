// tessera/checkpoint/standing.h: what stands where a save is going to, told apart by its `.metadata`: so that a save replaces what it was
// asked to replace and nothing else, and so that an error can say whose it is.
#pragma once

#include <optional>
#include <string>

#include "tessera/base/digest.h"
#include "tessera/storage/storage.h"

namespace tessera {

struct Standing {
  enum class Kind : uint8_t { nothing, files, checkpoint };  // nothing, or at most unfinished saves; files that are no checkpoint
  Kind kind = Kind::nothing;
  std::optional<Digest> metadata = {};  // of a checkpoint whose `.metadata` can be read
  std::string save_id = {};             // where it tells
  bool operator==(const Standing& other) const { return kind == other.kind && metadata == other.metadata; }
};

// Does not fail because a checkpoint is damaged.
//
// Errors  Error(io, exists) where the place cannot be looked at.
Standing standing_at(const Storage& storage, const Path& directory);
// "save 0123…", "a checkpoint of another tool", "files that are no checkpoint", "nothing".
std::string describe(const Standing& standing);

}  // namespace tessera
