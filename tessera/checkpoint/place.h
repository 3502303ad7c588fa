// tessera/checkpoint/place.h: a directory that a person named, as a storage root and a name below it: a save stages its
// directory beside the target, so the storage's root is the parent.
#pragma once

#include <string>

#include "tessera/storage/local_storage.h"

namespace tessera {

struct Place {
  std::string parent;
  Path name;
};

// Resolves symbolic links and "." and ".." in what exists, so that a link to a checkpoint names the checkpoint.
// Errors  Error(invalid_argument) for an empty name or the file system's root.
Place place_of(const std::string& directory);

}  // namespace tessera
