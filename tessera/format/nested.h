// tessera/format/nested.h: the nesting of a state dict beside its flat keys.
// Source      torch.distributed.checkpoint's flatten_state_dict and _traverse of 2.4 and later (docs/format.md).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/layout/state_dict.h"

namespace tessera::format {

// Throws Error(`code`) unless the paths (key → path) are those of one nesting: none empty or of more than 100 elements, no value that is
// also a container, no container that is dict and list at once, no negative list index, and in all lists together not more indices
// without a key than there are keys (and a thousand): unflatten() then makes something in proportion to them.
void check_paths(const std::map<std::string, const KeyPath*>& paths, Code code);
// True for the path of a flat state, which is its key alone. Distinct keys that all are so are those of one nesting: one dict.
bool is_own_path(std::string_view key, const KeyPath& path);

// The leaves of a nested value: every Mapping is descended (an empty one leaves no trace), a list only if it holds a tensor or a
// Mapping at some depth through lists, nothing else. Keys of mappings become strings as Python's str() has them.
// Errors  Error(invalid_argument) for a mapping's key that is no str, int, bool or None.
std::vector<std::pair<KeyPath, Value>> flatten(const Value& nested);
// The nested value of leaves; lists with holes are filled with None.
// Errors  Error(invalid_argument) unless the paths are those of one nesting.
Value unflatten(const std::vector<std::pair<KeyPath, Value>>& leaves);

}  // namespace tessera::format
