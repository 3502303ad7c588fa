#include "tessera/fsdp/contexts_below.h"

#include <algorithm>

#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/walk.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {

std::vector<std::shared_ptr<FsdpContext>> contexts_below(ModuleRef module) {
  std::vector<std::shared_ptr<FsdpContext>> contexts;
  walk(*module, [&](const WalkStep& step) {
    if (step.wrapper == nullptr || !step.wrapper->unit()) return;
    const auto& context = step.wrapper->unit()->shared_context();
    if (std::find(contexts.begin(), contexts.end(), context) == contexts.end()) contexts.push_back(context);
  });
  return contexts;
}

}  // namespace tessera
