#include "tessera/fsdp/unshard.h"

#include <vector>

#include "tessera/fsdp/context.h"
#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/walk.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {
namespace {

std::vector<ModuleUnit*> units_of(ModuleRef module, bool recurse) {
  std::vector<ModuleUnit*> units;
  walk(*module, [&](const WalkStep& step) {
    if (step.wrapper == nullptr || !step.wrapper->unit()) return;
    if (recurse || step.path.empty()) units.push_back(step.wrapper->unit().get());
  });
  return units;
}

}  // namespace

void unshard(ModuleRef module, const UnshardOptions& options) {
  const std::vector<ModuleUnit*> units = units_of(module, options.recurse);
  for (ModuleUnit* unit : units) unit->context().refuse_while_summoned("unshard() was called");
  for (ModuleUnit* unit : units) unit->launch_unshard();
  if (!options.wait) return;
  for (ModuleUnit* unit : units) unit->finish_unshard();
}

void reshard(ModuleRef module, bool recurse) {
  for (ModuleUnit* unit : units_of(module, recurse)) {
    unit->context().refuse_while_summoned("reshard() was called");
    unit->reshard();
  }
}

}  // namespace tessera
