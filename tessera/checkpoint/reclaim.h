// tessera/checkpoint/reclaim.h: what saves that were cut short left behind, and its removal.
// Rule        A leftover is a directory named as only a save names one (storage/names.h: ".tessera-" or ".tessera-trash-" and 32
//             hexadecimal digits), in a root, beside a target, or inside one. Where a save was cut short inside its target, it is also
//             the files that had moved up already: those that its staging directory names and no longer holds, as long as published, in a
//             directory without `.metadata`. No save publishes under such a name, so the rule cannot match a step (I8).
// Safe when   A save may be at work in a staging directory: one is left alone until nothing in it changed for `older_than`. A leftover goes
//             out of sight by one rename first, so a save that is at work after all fails, and publishes no part. Clocks count: on a
//             network file system the server's must not be hours away from ours.
// Errors      A leftover that cannot be removed is told in the report. Throws Error(io) where the directory cannot be listed.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tessera/storage/storage.h"

namespace tessera {

struct Leftover {
  Path directory;  // below the storage's root
  std::vector<Path> moved_up;  // files beside it that are of the same save
  int64_t bytes = 0;  // of all of them
  std::chrono::system_clock::time_point modified = {};  // the newest thing in it; the epoch where the storage does not tell
};

// Of `directory` itself and of the steps in it; by name.
std::vector<Leftover> leftovers_of(const Storage& storage, const Path& directory = "");

struct ReclaimOptions {
  std::chrono::seconds older_than = std::chrono::hours(1);
  std::set<std::string> alive = {};  // ids of saves that are at work, whatever their age
  bool dry_run = false;
  std::function<void(const Path& directory)> looks_at = {};  // told before one is removed: others may wait meanwhile
};
struct ReclaimReport {
  std::vector<Leftover> removed;  // or that would be
  std::vector<Leftover> spared;  // a save may be at work there
  std::vector<std::string> warnings;
};
ReclaimReport reclaim(Storage& storage, const Path& directory = "", const ReclaimOptions& options = {});

// What a save does before it begins: only where `target` is a directory that holds leftovers and no checkpoint. Never throws.
void reclaim_inside(Storage& storage, const Path& target);

}  // namespace tessera
