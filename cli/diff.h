// cli/diff.h: tessera diff A B: whether two checkpoints hold the same keys, dtypes, shapes, bytes and objects.
// How they are cut into chunks and files does not count. Tensors are compared bit for bit, in bounded memory.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/places.h"

namespace tessera::cli {

struct Difference {
  std::string key;
  std::string what;  // "only in A", "only in B", "kind", "dtype", "shape", "bytes", "value"
  std::string a;     // each side, for people
  std::string b;
  bool operator==(const Difference&) const = default;
};
// In order of keys; none where the two are equal.
std::vector<Difference> differences(const NamedCheckpoint& a, const NamedCheckpoint& b);

// Exit code 0 where they are equal, 1 with a table where they differ.
Output diff(const std::string& path_a, const std::string& path_b);

}  // namespace tessera::cli
