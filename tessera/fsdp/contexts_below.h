// tessera/fsdp/contexts_below.h: the contexts that the units below a module belong to, each once.
#pragma once

#include <memory>
#include <vector>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

class FsdpContext;

std::vector<std::shared_ptr<FsdpContext>> contexts_below(ModuleRef module);

}  // namespace tessera
