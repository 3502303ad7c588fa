// cli/leftovers.h: how the commands show what saves that were cut short left behind.
#pragma once

#include <string>
#include <vector>

#include "tessera/checkpoint/reclaim.h"

namespace tessera::cli {

// A table, or nothing where there are none.
std::string leftovers_text(const std::string& root, const std::vector<Leftover>& leftovers);
// A list of objects.
std::string leftovers_json(const std::vector<Leftover>& leftovers);
// "3 h", "12 s": how long ago anything in it changed; empty where the storage does not tell.
std::string age_of(const Leftover& leftover);

// Error(not_found) where there is no such directory, with a hint. Error(invalid_argument) for one checkpoint.
void refuse_no_root(const Storage& storage, const std::string& path);

}  // namespace tessera::cli
