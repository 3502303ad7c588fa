// tessera/checkpoint/catalog.h: which steps a root holds. A step is a directory `step-%08d` with a `.metadata`, or with a sidecar that says
// it had one; all else in a root (staging, trash, other people's files) is no step and is never touched. A step is pinned, which keeps it
// from retention, by an empty file `step-%08d.pinned` beside it, which a person may make and remove as well.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tessera/storage/storage.h"

namespace tessera {

using Step = int64_t;

// "step-00000012". A step is 0 or more; from 100,000,000 on the name is longer.
Path step_name(Step step);
// The step of such a name; nothing for any other name, so that staging and trash can never be taken for one.
std::optional<Step> step_named(const std::string& name);
// The steps of a root, ascending. None where the root does not exist yet. A step that cannot be looked into counts as one.
// Errors  Error(io) where the root cannot be listed.
std::vector<Step> steps_of(const Storage& storage);

// The steps whose pin is there, whether or not the step itself is.
std::set<Step> pinned_steps(const Storage& storage);
// Both are durable when they return, and do nothing where it is so already. Error(not_found) for a step that is not there.
void pin(Storage& storage, Step step);
void unpin(Storage& storage, Step step);

}  // namespace tessera
