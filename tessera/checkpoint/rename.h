// tessera/checkpoint/rename.h: the keys of an open checkpoint under other names.
#pragma once

#include <vector>

#include "tessera/checkpoint/open.h"
#include "tessera/plan/load_plan.h"

namespace tessera {

// Each key is rewritten by every rule in turn. Paths of renamed keys are {new key}.
// Errors  Error(invalid_argument) for a pattern that is no regular expression and for two keys that would become one; Error(limit) for
//         a key of more than 4096 bytes, on which a regular expression could exhaust the stack.
void rename_keys(Opened& opened, const std::vector<Rename>& rules);

}  // namespace tessera
