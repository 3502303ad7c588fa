// tessera/storage/local_commit.h: the ways in which a staged directory becomes a checkpoint on a local file system.
// Staging and target are paths below `root`; `staging` is complete and synced.
// Promise     An Error from before the moment of appearance leaves the target as it was. One from after it (a failed sync)
//             leaves the old content whole under a trash name: nothing is deleted before its successor is durable.
#pragma once

#include <string>

#include "tessera/storage/descriptor.h"

namespace tessera {

// Staged beside the target: one rename, which succeeds where the target is absent or empty and cannot touch a full one.
void commit_beside(const LocalRoot& root, const Path& staging, const Path& target, Replace replace, const MayReplace& may_replace);

// Staged inside the target, which holds nothing but directories of unfinished saves (Error(exists) else): files move up to names that must
// be free, `last` after the others were synced; its appearance is the commit. Cut short by a crash before that, the files that
// moved stay behind without `last`; the staging directory still tells which they are (checkpoint/reclaim.h).
void commit_inside(const LocalRoot& root, const Path& staging, const Path& target, const std::string& last);

// What Replace::with_gap does where directories cannot be swapped. If the second move fails, the first is taken back.
void replace_with_gap(const LocalRoot& root, const Path& staging, const Path& target, const MayReplace& may_replace = {});

}  // namespace tessera
