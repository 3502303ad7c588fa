// tessera/storage/names.h: the names that belong to tessera below a root, and the rule for paths. What these functions do not claim is
// somebody else's, or a published checkpoint, and is never removed by a rule.
#pragma once

#include <string>
#include <vector>

#include "tessera/storage/storage.h"

namespace tessera {

// ".tessera-<id>": a directory that a save is filling. Error(invalid_argument) where that would be no name, or a trash name.
std::string staging_name(const std::string& id);
// ".tessera-trash-<random>": a directory on its way out.
std::string trash_name();
// True for what the two above return (a trash name is no staging name).
bool is_staging_name(const std::string& name);
bool is_trash_name(const std::string& name);

// The names of a path, in order; none for "".
// Errors  Error(invalid_argument) for an absolute path, an empty name, ".", ".." or a NUL.
std::vector<std::string> names_of(const Path& path);
// "a/b/c" → {"a/b", "c"}; "c" → {"", "c"}.
struct Split {
  Path parent;
  std::string name;
};
Split split(const Path& path);

}  // namespace tessera
