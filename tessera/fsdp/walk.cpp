#include "tessera/fsdp/walk.h"

#include <torch/nn/module.h>

#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {
namespace {

void descend(torch::nn::Module& module, const std::string& path, ModuleUnit* unit, const std::function<void(const WalkStep&)>& visit) {
  auto* wrapper = dynamic_cast<Wrapper*>(&module);
  visit({module, path, wrapper, unit});
  if (wrapper != nullptr) {
    descend(wrapper->wrapped(), path, wrapper->unit() ? wrapper->unit().get() : unit, visit);
    return;
  }
  for (const auto& child : module.named_children()) descend(*child.value(), dotted(path, child.key()), unit, visit);
}

}  // namespace

void walk(torch::nn::Module& module, const std::function<void(const WalkStep&)>& visit) { descend(module, "", nullptr, visit); }

std::string dotted(const std::string& path, const std::string& name) {
  return path.empty() ? name : name.empty() ? path : path + "." + name;
}

}  // namespace tessera
