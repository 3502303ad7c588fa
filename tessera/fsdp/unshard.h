// tessera/fsdp/unshard.h: gathers and frees units by hand: to begin a gather earlier than the prefetch would, or to keep a unit whole over
// several forwards.
// Collective  unshard(): every rank calls it, at the same place.
#pragma once

#include "tessera/fsdp/module_ref.h"

namespace tessera {

struct UnshardOptions {
  bool recurse = false;  // units below the module too; otherwise that of the module itself
  bool wait = true;      // false: the gather goes on while others compute; forward waits for it
};

// Whole from now on until reshard(), or until a forward or backward that frees the unit by itself.
void unshard(ModuleRef module, const UnshardOptions& options = {});
// No effect where nothing is whole.
void reshard(ModuleRef module, bool recurse = false);

}  // namespace tessera
