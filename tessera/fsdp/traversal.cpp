#include "tessera/fsdp/traversal.h"

#include <torch/nn/module.h>

#include <unordered_map>

#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/walk.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {
namespace {

// Things in the order in which they were first seen, each once.
template <class T>
class Named {
 public:
  // Adds `make()` under a new identity, or `name` as another name of the one that is known.
  template <class Make>
  void add(const void* identity, const std::string& name, Make make) {
    const auto [known, is_new] = index_.emplace(identity, list_.size());
    if (is_new) list_.push_back(make());
    else list_[known->second].aliases.push_back(name);
  }
  std::vector<T> take() { return std::move(list_); }

 private:
  std::vector<T> list_;
  std::unordered_map<const void*, size_t> index_;
};

}  // namespace

std::vector<NamedParameter> named_parameters(ModuleRef module) {
  Named<NamedParameter> found;
  std::shared_ptr<ModuleUnit> holder;  // of step.unit
  walk(*module, [&](const WalkStep& step) {
    if (step.wrapper != nullptr) return;
    auto own = step.module.named_parameters(/*recurse=*/false);
    const auto add_own = [&](const std::string& key, const at::Tensor& tensor) {
      const std::string name = dotted(step.path, key);
      found.add(tensor.unsafeGetTensorImpl(), name, [&] { return NamedParameter{name, {}, tensor, nullptr, 0}; });
    };
    if (step.unit != nullptr) {
      holder = step.unit->shared_from_this();
      for (const ModuleUnit::Registered& parameter : step.unit->registered(step.module)) {
        if (parameter.unit == ModuleUnit::Registered::ignored) {
          add_own(parameter.name, own[parameter.name]);
          own.erase(parameter.name);
          continue;
        }
        const std::shared_ptr<FlatUnit> unit(holder, holder->units()[parameter.unit].get());
        const std::string name = dotted(step.path, parameter.name);
        const at::Tensor& tensor = unit->parameter(parameter.index);
        found.add(tensor.unsafeGetTensorImpl(), name, [&] { return NamedParameter{name, {}, tensor, unit, parameter.index}; });
      }
    }
    for (const auto& parameter : own) add_own(parameter.key(), parameter.value());
  });
  return found.take();
}

std::vector<NamedParameter> parameters_outside_units(ModuleRef module) {
  std::vector<NamedParameter> parameters = named_parameters(module);
  std::erase_if(parameters, [](const NamedParameter& parameter) { return parameter.unit != nullptr; });
  return parameters;
}

std::vector<NamedBuffer> named_buffers(ModuleRef module) {
  Named<NamedBuffer> found;
  walk(*module, [&](const WalkStep& step) {
    if (step.wrapper != nullptr) return;
    for (const auto& buffer : step.module.named_buffers(/*recurse=*/false)) {
      if (!buffer.value().defined()) continue;
      const std::string name = dotted(step.path, buffer.key());
      const at::ScalarType built = step.unit != nullptr ? step.unit->built_dtype(buffer.value()) : buffer.value().scalar_type();
      found.add(buffer.value().unsafeGetTensorImpl(), name, [&] { return NamedBuffer{name, {}, buffer.value(), built}; });
    }
  });
  return found.take();
}

std::vector<NamedFlatUnit> flat_units(ModuleRef module) {
  std::vector<NamedFlatUnit> list;
  std::unordered_map<const FlatUnit*, size_t> index;
  walk(*module, [&](const WalkStep& step) {
    if (step.wrapper == nullptr || !step.wrapper->unit()) return;
    for (const auto& flat : step.wrapper->unit()->units()) {
      const std::string key = dotted(step.path, flat->flat_name());
      const auto [known, is_new] = index.emplace(flat.get(), list.size());
      if (is_new) list.push_back({key, step.path, {}, std::shared_ptr<FlatUnit>(step.wrapper->unit(), flat.get()), {}});
      NamedFlatUnit& named = list[known->second];
      if (!is_new) named.aliases.push_back(key);
      for (size_t i = 0; i < flat->layout().parameters.size(); ++i) {
        const FlatParameter& parameter = flat->layout().parameters[i];
        if (is_new) named.parameters.push_back({dotted(step.path, parameter.name), {}});
        else named.parameters[i].aliases.push_back(dotted(step.path, parameter.name));
        for (const std::string& alias : parameter.aliases) named.parameters[i].aliases.push_back(dotted(step.path, alias));
      }
    }
  });
  return list;
}

}  // namespace tessera
