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
// ".tessera-aside-<random>": a directory that makes room for another, and may be the only checkpoint there is.
std::string aside_name();
// True for what these three return, each for its own.
bool is_staging_name(const std::string& name);
bool is_aside_name(const std::string& name);
bool is_trash_name(const std::string& name);
// True for a directory of either kind: what a place may hold that is free all the same.
bool is_of_unfinished_save(const DirectoryEntry& entry);

// True for a name that only a save gives: staging or trash with an id as random_id() makes it. Narrower than the two above,
// for whoever is to remove what it matches.
bool is_leftover_name(const std::string& name);
// Error(invalid_argument) where a name of `target` begins as ours do: a checkpoint there could be taken for a leftover.
void refuse_own_names(const Path& target);

// The names of a path, in order; none for "".
// Errors  Error(invalid_argument) for an absolute path, an empty name, ".", ".." or a NUL.
std::vector<std::string> names_of(const Path& path);
// "a/b/c" → {"a/b", "c"}; "c" → {"", "c"}.
struct Split {
  Path parent;
  std::string name;
};
Split split(const Path& path);
// The other way round: {"a/b", "c"} → "a/b/c"; {"", "c"} → "c".
Path below(const Path& directory, const std::string& name);

}  // namespace tessera
