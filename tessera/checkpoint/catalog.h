// tessera/checkpoint/catalog.h: which steps a root holds. A step is a directory `step-%08d` with a `.metadata`; all else
// in a root (staging, trash, other people's files) is no step and is never touched.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tessera/storage/storage.h"

namespace tessera {

using Step = int64_t;

// "step-00000012". A step is 0 or more; from 100,000,000 on the name is longer.
Path step_name(Step step);
// The step of such a name; nothing for any other name, so that staging and trash can never be taken for one.
std::optional<Step> step_named(const std::string& name);
// The steps of a root, ascending. None where the root does not exist yet.
std::vector<Step> steps_of(const Storage& storage);

}  // namespace tessera
