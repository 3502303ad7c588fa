#include "tessera/libtorch/torch_optimizer_state.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <cstring>
#include <map>

#include "tessera/base/error.h"
#include "tessera/fsdp/optim.h"
#include "tessera/libtorch/model_state.h"

namespace tessera {
namespace {

// What one leaf's entry holds, by stock's names.
struct Fields {
  std::vector<std::pair<const char*, at::Tensor>> tensors;  // shaped as the leaf
  std::optional<int64_t> step;
  std::function<void(int64_t)> set_step = {};
};

using Options = std::vector<NamedOption>;

// How one of torch::optim's optimizers keeps its state and options.
template <class ParamState, class GroupOptions>
struct AdamLike {
  // An entry of zeros at step 0 is what the first step would make.
  static Fields fields(torch::optim::Optimizer& optimizer, const at::Tensor& leaf, const torch::optim::OptimizerParamGroup& group,
                       NotBegun&) {
    auto& entry = optimizer.state()[leaf.unsafeGetTensorImpl()];
    if (!entry) {
      auto made = std::make_unique<ParamState>();
      made->step(0);
      made->exp_avg(at::zeros_like(leaf));
      made->exp_avg_sq(at::zeros_like(leaf));
      if (static_cast<const GroupOptions&>(group.options()).amsgrad()) made->max_exp_avg_sq(at::zeros_like(leaf));
      entry = std::move(made);
    }
    auto& state = static_cast<ParamState&>(*entry);
    Fields fields{
        {{"exp_avg", state.exp_avg()}, {"exp_avg_sq", state.exp_avg_sq()}}, state.step(), [&state](int64_t step) { state.step(step); }};
    if (state.max_exp_avg_sq().defined()) fields.tensors.emplace_back("max_exp_avg_sq", state.max_exp_avg_sq());
    return fields;
  }
  static Options options(const torch::optim::OptimizerParamGroup& group) {
    const auto& o = static_cast<const GroupOptions&>(group.options());
    const auto [beta1, beta2] = o.betas();
    return {{"lr", o.lr()},
            {"betas", Value::tuple({beta1, beta2})},
            {"eps", o.eps()},
            {"weight_decay", o.weight_decay()},
            {"amsgrad", o.amsgrad()},
            {"maximize", false},
            {"foreach", Value()},
            {"capturable", false},
            {"differentiable", false},
            {"fused", Value()},
            {"decoupled_weight_decay", std::is_same_v<GroupOptions, torch::optim::AdamWOptions>}};
  }
  static void set(torch::optim::OptimizerParamGroup& group, const std::string& name, const Value& value) {
    auto& o = static_cast<GroupOptions&>(group.options());
    const double* number = value.as<double>();
    if (name == "lr" && number) o.lr(*number);
    if (name == "eps" && number) o.eps(*number);
    if (name == "weight_decay" && number) o.weight_decay(*number);
    if (name == "amsgrad" && value.as<bool>()) o.amsgrad(*value.as<bool>());
    const auto* betas = value.as<Value::Sequence>();
    if (name == "betas" && betas && betas->items.size() == 2 && betas->items[0].as<double>() && betas->items[1].as<double>()) {
      o.betas({*betas->items[0].as<double>(), *betas->items[1].as<double>()});
    }
  }
};

struct SgdLike {
  // A first step takes the gradient as it is, without dampening: a buffer of zeros is not what it would begin with.
  static Fields fields(torch::optim::Optimizer& optimizer, const at::Tensor& leaf, const torch::optim::OptimizerParamGroup& group,
                       NotBegun& not_begun) {
    if (static_cast<const torch::optim::SGDOptions&>(group.options()).momentum() == 0) return {};
    const auto entry = optimizer.state().find(leaf.unsafeGetTensorImpl());
    if (entry != optimizer.state().end()) {
      return {{{"momentum_buffer", static_cast<torch::optim::SGDParamState&>(*entry->second).momentum_buffer()}}, std::nullopt};
    }
    at::Tensor& buffer = not_begun[leaf.unsafeGetTensorImpl()];
    if (!buffer.defined()) buffer = at::zeros_like(leaf.detach());
    return {{{"momentum_buffer", buffer}}, std::nullopt};
  }
  static void begin(torch::optim::Optimizer& optimizer, NotBegun& not_begun) {
    for (auto& [leaf, buffer] : not_begun) {
      auto entry = std::make_unique<torch::optim::SGDParamState>();
      entry->momentum_buffer(buffer);
      optimizer.state()[const_cast<c10::TensorImpl*>(leaf)] = std::move(entry);
    }
    not_begun.clear();
  }
  static Options options(const torch::optim::OptimizerParamGroup& group) {
    const auto& o = static_cast<const torch::optim::SGDOptions&>(group.options());
    return {{"lr", o.lr()},
            {"momentum", o.momentum()},
            {"dampening", o.dampening()},
            {"weight_decay", o.weight_decay()},
            {"nesterov", o.nesterov()},
            {"maximize", false},
            {"foreach", Value()},
            {"differentiable", false},
            {"fused", Value()}};
  }
  static void set(torch::optim::OptimizerParamGroup& group, const std::string& name, const Value& value) {
    auto& o = static_cast<torch::optim::SGDOptions&>(group.options());
    const double* number = value.as<double>();
    if (name == "lr" && number) o.lr(*number);
    if (name == "momentum" && number) o.momentum(*number);
    if (name == "dampening" && number) o.dampening(*number);
    if (name == "weight_decay" && number) o.weight_decay(*number);
    if (name == "nesterov" && value.as<bool>()) o.nesterov(*value.as<bool>());
  }
};

struct Adapter {
  Fields (*fields)(torch::optim::Optimizer&, const at::Tensor&, const torch::optim::OptimizerParamGroup&, NotBegun&);
  Options (*options)(const torch::optim::OptimizerParamGroup&);
  void (*set)(torch::optim::OptimizerParamGroup&, const std::string&, const Value&);
};

Adapter adapter_of(torch::optim::Optimizer& optimizer) {
  check_elementwise(optimizer);
  using AdamW = AdamLike<torch::optim::AdamWParamState, torch::optim::AdamWOptions>;
  using Adam = AdamLike<torch::optim::AdamParamState, torch::optim::AdamOptions>;
  if (dynamic_cast<torch::optim::AdamW*>(&optimizer)) return {AdamW::fields, AdamW::options, AdamW::set};
  if (dynamic_cast<torch::optim::Adam*>(&optimizer)) return {Adam::fields, Adam::options, Adam::set};
  if (dynamic_cast<torch::optim::SGD*>(&optimizer)) return {SgdLike::fields, SgdLike::options, SgdLike::set};
  throw Error({.code = Code::unsupported,
               .what = "the state of this torch::optim optimizer",
               .hint = "AdamW, Adam and SGD are known; give others as an object with state_dict()"});
}

// The named parameters that each leaf of the optimizer stands for: a whole unit's, or one.
using NamesOfLeaf = std::multimap<const c10::TensorImpl*, NamedParameter>;
NamesOfLeaf names_of_leaves(ModuleRef model) {
  NamesOfLeaf names;
  for (NamedParameter& parameter : named_parameters(model)) {
    const c10::TensorImpl* leaf = (parameter.unit ? parameter.unit->shard() : parameter.tensor).unsafeGetTensorImpl();
    names.emplace(leaf, std::move(parameter));
  }
  return names;
}

std::string state_key(const NamedParameter& parameter, const char* what) { return "state." + parameter.name + "." + what; }
std::string group_key(size_t group, const std::string& option) { return "param_groups." + std::to_string(group) + "." + option; }

template <class Work>
void for_each_parameter(torch::optim::Optimizer& optimizer, const NamesOfLeaf& names, size_t group, Work work) {
  for (const at::Tensor& leaf : optimizer.param_groups()[group].params()) {
    const auto [first, last] = names.equal_range(leaf.unsafeGetTensorImpl());
    if (first == last)
      throw Error({.code = Code::invalid_argument, .what = "the optimizer steps a tensor that is no parameter of the model"});
    for (auto named = first; named != last; ++named) work(named->second, leaf);
  }
}

}  // namespace

std::vector<ShardPart> shard_parts(torch::optim::Optimizer& optimizer, ModuleRef model, NotBegun& not_begun) {
  const Adapter adapter = adapter_of(optimizer);
  const NamesOfLeaf names = names_of_leaves(model);
  std::vector<ShardPart> parts;
  for (size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    for_each_parameter(optimizer, names, g, [&](const NamedParameter& parameter, const at::Tensor& leaf) {
      if (!parameter.unit) return;
      for (const auto& [what, tensor] : adapter.fields(optimizer, leaf, optimizer.param_groups()[g], not_begun).tensors)
        parts.push_back({parameter, what, parameter.unit->part_of(tensor, parameter.index)});
    });
  }
  return parts;
}

StateDict torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, TensorViews& views, NotBegun& not_begun,
                                const WholeTensors* whole) {
  const Adapter adapter = adapter_of(optimizer);
  const NamesOfLeaf names = names_of_leaves(model);
  StateDict state;
  for (size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto index = static_cast<int64_t>(g);
    std::vector<Value> params;
    for_each_parameter(optimizer, names, g, [&](const NamedParameter& parameter, const at::Tensor& leaf) {
      params.emplace_back(parameter.name);
      const Fields fields = adapter.fields(optimizer, leaf, optimizer.param_groups()[g], not_begun);
      for (const auto& [what, tensor] : fields.tensors) {
        const at::Tensor part = parameter.unit ? parameter.unit->part_of(tensor, parameter.index) : tensor;
        auto leaf = parameter_leaf(parameter, what, part, views, whole);
        if (leaf) state.add(state_key(parameter, what), *std::move(leaf), {"state", parameter.name, what});
      }
      if (fields.step) {
        state.add(state_key(parameter, "step"), replicated(views.view(at::full({}, static_cast<float>(*fields.step), at::kFloat))),
                  {"state", parameter.name, "step"});
      }
    });
    for (auto& [option, value] : adapter.options(optimizer.param_groups()[g]))
      state.add(group_key(g, option), std::move(value), {"param_groups", index, option});
    state.add(group_key(g, "params"), Value::list(std::move(params)), {"param_groups", index, "params"});
  }
  return state;
}

void apply_torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, const StateDict& loaded, NotBegun& not_begun) {
  const Adapter adapter = adapter_of(optimizer);
  SgdLike::begin(optimizer, not_begun);
  const NamesOfLeaf names = names_of_leaves(model);
  for (size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    auto& group = optimizer.param_groups()[g];
    for_each_parameter(optimizer, names, g, [&](const NamedParameter& parameter, const at::Tensor& leaf) {
      const auto found = loaded.leaves.find(state_key(parameter, "step"));
      const Fields fields = adapter.fields(optimizer, leaf, group, not_begun);
      if (found == loaded.leaves.end() || !fields.set_step) return;
      float step = 0;
      std::memcpy(&step, std::get<TensorLeaf>(found->second.is).shards.at(0).view.data, sizeof step);
      fields.set_step(std::lround(step));
    });
    for (const auto& [option, value] : adapter.options(group)) {
      if (const Value* read = loaded.object(group_key(g, option))) adapter.set(group, option, *read);
    }
  }
}

}  // namespace tessera
