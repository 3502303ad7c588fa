#include "tessera/libtorch/optimizer_state.h"

#include "tessera/base/error.h"
#include "tessera/libtorch/model_state.h"

namespace tessera {
namespace {

Value list_of(const std::vector<std::string>& names) {
  std::vector<Value> items(names.begin(), names.end());
  return Value::list(std::move(items));
}

std::string group_key(size_t group, const std::string& option) { return "param_groups." + std::to_string(group) + "." + option; }

}  // namespace

std::vector<ShardPart> shard_parts(const Optimizer& optimizer) {
  std::vector<ShardPart> parts;
  for (const ParameterState& held : optimizer.state()) {
    for (const NamedState& named : held.state) {
      if (held.parameter.unit && named.tensor.dim() > 0) parts.push_back({held.parameter, named.name, named.tensor});
    }
  }
  return parts;
}

StateDict optimizer_state(const Optimizer& optimizer, TensorViews& views, const WholeTensors* whole) {
  StateDict state;
  for (const ParameterState& held : optimizer.state()) {
    for (const NamedState& named : held.state) {
      const std::string& name = held.parameter.name;
      const bool scalar = named.tensor.dim() == 0;
      auto leaf = scalar ? replicated(views.view(named.tensor)) : parameter_leaf(held.parameter, named.name, named.tensor, views, whole);
      if (leaf) state.add("state." + name + "." + named.name, *std::move(leaf), {"state", name, named.name});
    }
  }
  const std::vector<ParameterGroup> groups = optimizer.groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto index = static_cast<int64_t>(g);
    for (const auto& [option, value] : groups[g].options) state.add(group_key(g, option), value, {"param_groups", index, option});
    state.add(group_key(g, "params"), list_of(groups[g].params), {"param_groups", index, "params"});
  }
  return state;
}

void apply_optimizer_state(Optimizer& optimizer, const StateDict& loaded) {
  const std::vector<ParameterGroup> groups = optimizer.groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    const Value* params = loaded.object(group_key(g, "params"));
    if (params && *params != list_of(groups[g].params)) {
      throw Error(
          {.code = Code::mismatch, .what = "parameter group " + std::to_string(g) + " holds other parameters in the checkpoint than here"});
    }
    for (const auto& [option, value] : groups[g].options) {
      if (const Value* read = loaded.object(group_key(g, option))) optimizer.set_option(g, option, *read);
    }
  }
  std::vector<std::string> names;
  for (const ParameterState& held : optimizer.state()) names.push_back(held.parameter.name);
  optimizer.state_loaded(names);
}

}  // namespace tessera
