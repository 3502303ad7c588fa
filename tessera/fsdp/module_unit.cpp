#include "tessera/fsdp/module_unit.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <span>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/module_access.h"
#include "tessera/fsdp/walk.h"
#include "tessera/fsdp/wrapper.h"

namespace tessera {
namespace {

// Parameters that share a flat buffer.
struct Group {
  at::ScalarType dtype;
  bool trainable;
  std::vector<FlatParameter> names;
  std::vector<at::Tensor> tensors;
};

// What a unit would hold.
struct Found {
  std::vector<Group> groups;
  std::vector<std::pair<torch::nn::Module*, std::vector<ModuleUnit::Registered>>> modules;
  int64_t numel = 0;
};

std::string flat_name(const Group& group, size_t index) {
  if (index == 0) return "_flat_param";
  return "_flat_param_" + std::string(c10::getDtypeNames(group.dtype).first) + (group.trainable ? "" : "_frozen");
}

Error in_two_units(const std::string& name) {
  return Error({.code = Code::invalid_argument,
                .what = name + " belongs to an inner unit already",
                .hint = "wrap the module that contains all uses of a shared parameter, and none of its parts that share it"});
}

class Finder {
 public:
  explicit Finder(const FsdpContext& context) : context_(context) {}

  void visit(const WalkStep& step) {
    if (step.wrapper != nullptr || step.unit != nullptr) return;
    if (context_.owner(&step.module) != nullptr) {
      // What has nothing to take, as a Dropout or an ignored module, may be shared.
      for (const auto& parameter : step.module.named_parameters(/*recurse=*/false)) {
        if (!context_.ignored().contains(parameter.value())) throw in_two_units("module " + step.path);
      }
      return;
    }
    std::vector<ModuleUnit::Registered> registered;
    for (const auto& parameter : step.module.named_parameters(/*recurse=*/false)) {
      if (context_.ignored().contains(parameter.value())) {
        registered.push_back({parameter.key(), ModuleUnit::Registered::ignored, 0});
        continue;
      }
      const auto [group, index] = place(dotted(step.path, parameter.key()), parameter.value());
      registered.push_back({parameter.key(), group, index});
    }
    if (seen_.emplace(&step.module, true).second) found_.modules.emplace_back(&step.module, std::move(registered));
  }

  Found take() { return std::move(found_); }

 private:
  // Group and index of a parameter; a name that is not its first becomes an alias.
  std::pair<size_t, size_t> place(const std::string& name, const at::Tensor& tensor) {
    const void* identity = tensor.unsafeGetTensorImpl();
    if (context_.owner(identity) != nullptr) throw in_two_units("parameter " + name);
    if (const auto known = places_.find(identity); known != places_.end()) {
      found_.groups[known->second.first].names[known->second.second].aliases.push_back(name);
      return known->second;
    }
    Group& group = group_for(tensor);
    group.names.push_back({.name = name, .sizes = tensor.sizes().vec()});
    group.tensors.push_back(tensor);
    found_.numel += tensor.numel();
    return places_[identity] = {static_cast<size_t>(&group - found_.groups.data()), group.names.size() - 1};
  }

  Group& group_for(const at::Tensor& tensor) {
    for (Group& group : found_.groups) {
      if (group.dtype == tensor.scalar_type() && group.trainable == tensor.requires_grad()) return group;
    }
    return found_.groups.emplace_back(Group{tensor.scalar_type(), tensor.requires_grad(), {}, {}});
  }

  const FsdpContext& context_;
  Found found_;
  std::unordered_map<const void*, std::pair<size_t, size_t>> places_;
  std::unordered_map<const void*, bool> seen_;
};

}  // namespace

ModuleUnit::ModuleUnit(std::shared_ptr<FsdpContext> context, const WrapOptions& options, const torch::nn::Module& module, bool is_root)
    : context_(std::move(context)), options_(options), module_(module), is_root_(is_root) {
  context_->add(*this);
}

ModuleUnit::~ModuleUnit() { context_->remove(*this); }

std::shared_ptr<ModuleUnit> ModuleUnit::take(std::shared_ptr<FsdpContext> context, WrapOptions options, const std::string& name,
                                             torch::nn::Module& module, bool is_root) {
  Finder finder(*context);
  walk(module, [&](const WalkStep& step) { finder.visit(step); });
  Found found = finder.take();
  if (!is_root) {
    if (found.groups.empty() || found.numel < options.min_numel) return nullptr;
    if (options.policy && !options.policy({module, name, found.numel})) return nullptr;
  }
  if (found.numel < options.keep_whole_below) options.strategy = kept_after_forward(options.strategy);
  const std::shared_ptr<ModuleUnit> unit(new ModuleUnit(std::move(context), options, module, is_root));
  for (size_t i = 0; i < found.groups.size(); ++i) {
    Group& group = found.groups[i];
    for (const at::Tensor& tensor : group.tensors) {
      unit->context_->own(tensor.unsafeGetTensorImpl(), *unit);
      forget_base(tensor);
    }
    unit->units_.push_back(
        std::make_unique<FlatUnit>(*unit->context_, flat_name(group, i), options, std::move(group.names), std::move(group.tensors)));
  }
  for (auto& [part, registered] : found.modules) {
    unit->context_->own(part, *unit);
    // Left there, they would show up as parameters without values.
    for (const Registered& parameter : registered) {
      if (parameter.unit != Registered::ignored) parameters_of(*part).erase(parameter.name);
    }
    unit->registered_[part] = std::move(registered);
    unit->place_buffers(*part);
  }
  unit->make_node(unit);
  walk(module, [](const WalkStep& step) {
    if (step.wrapper == nullptr || !step.wrapper->unit()) return;
    for (const auto& flat : step.wrapper->unit()->units_) flat->set_module_path(step.path);
  });
  return unit;
}

void ModuleUnit::make_node(const std::shared_ptr<ModuleUnit>& self) {
  std::vector<at::Tensor> trainable;
  for (const auto& unit : units_) {
    if (!unit->trainable()) continue;
    for (size_t i = 0; i < unit->layout().parameters.size(); ++i) trainable.push_back(unit->parameter(i));
  }
  if (!trainable.empty()) node_ = std::make_unique<ParameterNode>(std::move(trainable), self);
}

// In the dtype and on the device that the options ask for.
void ModuleUnit::place_buffers(torch::nn::Module& module) {
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    const at::Tensor& tensor = buffer.value();
    if (!tensor.defined() || context_->ignored().contains(tensor)) continue;
    if (options_.device && *options_.device != tensor.device()) tensor.set_data(tensor.to(*options_.device));
    const at::ScalarType built = tensor.scalar_type();
    const at::ScalarType dtype = tensor.is_floating_point() ? options_.mixed_precision.buffer_dtype.value_or(built) : built;
    if (dtype == built) continue;
    cast_buffers_.emplace(tensor.unsafeGetTensorImpl(), built);
    tensor.set_data(tensor.to(dtype));
  }
}

at::ScalarType ModuleUnit::built_dtype(const at::Tensor& buffer) const {
  const auto cast = cast_buffers_.find(buffer.unsafeGetTensorImpl());
  return cast == cast_buffers_.end() ? buffer.scalar_type() : cast->second;
}

const std::vector<ModuleUnit::Registered>& ModuleUnit::registered(const torch::nn::Module& module) const {
  static const std::vector<Registered> none;
  const auto found = registered_.find(&module);
  return found == registered_.end() ? none : found->second;
}

bool ModuleUnit::is_precise() const { return options_.mixed_precision.full_in_eval && !module_.is_training(); }

std::optional<at::ScalarType> ModuleUnit::input_dtype() const {
  if (is_precise() || !options_.mixed_precision.cast_inputs) return std::nullopt;
  return options_.mixed_precision.param_dtype;
}

std::optional<at::ScalarType> ModuleUnit::output_dtype() const {
  return is_precise() ? std::nullopt : options_.mixed_precision.output_dtype;
}

bool ModuleUnit::whole() const {
  for (const auto& unit : units_) {
    if (!unit->whole()) return false;
  }
  return true;
}

void ModuleUnit::launch_unshard() {
  const bool precise = is_precise();
  for (const auto& unit : units_) unit->launch_unshard(precise);
}

void ModuleUnit::finish_unshard() {
  for (const auto& unit : units_) unit->finish_unshard();
}

void ModuleUnit::reshard() {
  for (const auto& unit : units_) unit->reshard();
}

void ModuleUnit::reshard_trainable() {
  for (const auto& unit : units_) {
    if (unit->trainable()) unit->reshard();
  }
}

void ModuleUnit::check_identity() const {
  for (const auto& unit : units_) unit->check_identity();
}

void ModuleUnit::attach() {
  if (node_) node_->attach();
}

void ModuleUnit::receive(const std::vector<at::Tensor>& gradients) {
  if (std::none_of(gradients.begin(), gradients.end(), [](const at::Tensor& gradient) { return gradient.defined(); })) return;
  context_->advance_reductions();
  context_->finish_reductions_of(*this);  // an earlier gradient of this backward, as of a unit that runs forward again in pieces
  std::span<const at::Tensor> left = gradients;
  for (const auto& unit : units_) {
    if (!unit->trainable()) continue;
    const size_t count = unit->layout().parameters.size();
    unit->accumulate(left.first(count));
    left = left.subspan(count);
  }
  context_->finish_backward(*this);
}

}  // namespace tessera
