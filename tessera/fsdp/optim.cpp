#include "tessera/fsdp/optim.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <map>

#include "tessera/base/error.h"

namespace tessera {
namespace {

// Elements that are worked on at a time, through all operations of a step: what they touch stays in the cache, so that
// a step reads and writes memory once. It is also below ATen's own grain, so that no operation is split again.
constexpr int64_t block_numel = 1 << 15;

const Value* find_option(const std::vector<NamedOption>& options, const std::string& name) {
  for (const auto& [key, value] : options) {
    if (key == name) return &value;
  }
  return nullptr;
}

Error wrong_option(const std::string& name, const Value& value) {
  return Error({.code = Code::mismatch, .what = "optimizer option " + name + " cannot be " + to_string(value)});
}

double number(const std::string& name, const Value& value) {
  if (const auto* real = value.as<double>()) return *real;
  if (const auto* whole = value.as<int64_t>()) return static_cast<double>(*whole);
  // A learning rate that stock keeps as a 0-dim tensor.
  if (const auto* tensor = value.as<Value::Tensor>(); tensor != nullptr && tensor->sizes.empty()) {
    if (tensor->dtype == DType::float32 && tensor->data.size() == sizeof(float)) {
      float single = 0;
      std::memcpy(&single, tensor->data.data(), sizeof single);
      return single;
    }
    if (tensor->dtype == DType::float64 && tensor->data.size() == sizeof(double)) {
      double twice = 0;
      std::memcpy(&twice, tensor->data.data(), sizeof twice);
      return twice;
    }
  }
  throw wrong_option(name, value);
}

bool flag(const std::string& name, const Value& value) {
  if (const auto* yes = value.as<bool>()) return *yes;
  throw wrong_option(name, value);
}

std::pair<double, double> pair_of_numbers(const std::string& name, const Value& value) {
  const auto* sequence = value.as<Value::Sequence>();
  if (sequence == nullptr || sequence->items.size() != 2) throw wrong_option(name, value);
  return {number(name, sequence->items[0]), number(name, sequence->items[1])};
}

// The value of an option that every group has.
const Value& option(const std::vector<NamedOption>& options, const char* name) {
  const Value* value = find_option(options, name);
  assert(value != nullptr);
  return *value;
}
double number(const std::vector<NamedOption>& options, const char* name) { return number(name, option(options, name)); }
bool flag(const std::vector<NamedOption>& options, const char* name) { return flag(name, option(options, name)); }

// A stretch of parameters that a step treats alike, as views of what it changes.
struct Stretch {
  at::Tensor parameter;
  at::Tensor gradient;
  std::vector<at::Tensor> moments;  // in the rule's order; undefined where the options call for none
  Stretch block(int64_t begin, int64_t count) const {
    const auto cut = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor.narrow(0, begin, count) : at::Tensor(); };
    Stretch part{cut(parameter), cut(gradient), {}};
    for (const at::Tensor& moment : moments) part.moments.push_back(cut(moment));
    return part;
  }
};

}  // namespace

// What one optimizer does to one stretch, and what it keeps for that.
class Optimizer::Rule {
 public:
  virtual ~Rule() = default;
  virtual std::vector<std::string> moment_names() const = 0;
  // Whether a group with these options keeps the moment.
  virtual bool keeps(const std::vector<NamedOption>& options, size_t moment) const = 0;
  virtual bool counts_steps() const = 0;
  // Throws Error(mismatch) for a value that the option cannot have.
  virtual void check(const std::string& name, const Value& value) const = 0;
  // `step` counts this one; `begun` is false in a parameter's first.
  virtual void apply(const std::vector<NamedOption>& options, double step, bool begun, Stretch stretch) const = 0;
};

namespace {

// torch/optim/adam.py, _single_tensor_adam.
class AdamWRule final : public Optimizer::Rule {
 public:
  std::vector<std::string> moment_names() const override { return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}; }
  bool keeps(const std::vector<NamedOption>& options, size_t moment) const override { return moment < 2 || flag(options, "amsgrad"); }
  bool counts_steps() const override { return true; }

  void check(const std::string& name, const Value& value) const override {
    if (name == "lr" || name == "eps" || name == "weight_decay") number(name, value);
    else if (name == "betas") pair_of_numbers(name, value);
    else if (name == "amsgrad" || name == "maximize" || name == "decoupled_weight_decay") flag(name, value);
  }

  void apply(const std::vector<NamedOption>& options, double step, bool, Stretch at) const override {
    const double lr = number(options, "lr");
    const double weight_decay = number(options, "weight_decay");
    const auto [beta1, beta2] = pair_of_numbers("betas", option(options, "betas"));
    const at::Tensor& parameter = at.parameter;
    at::Tensor gradient = flag(options, "maximize") ? at.gradient.neg() : at.gradient;
    if (weight_decay != 0) {
      if (flag(options, "decoupled_weight_decay")) parameter.mul_(1 - lr * weight_decay);
      else gradient = gradient.add(parameter, weight_decay);
    }
    at.moments[0].lerp_(gradient, 1 - beta1);
    at.moments[1].mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
    const double correction1 = 1 - std::pow(beta1, step);
    const double correction2 = 1 - std::pow(beta2, step);
    const double step_size = lr / correction1;
    at::Tensor squares = at.moments[1];
    if (flag(options, "amsgrad")) {
      at::maximum_out(at.moments[2], at.moments[2], squares);
      squares = at.moments[2];
    }
    const at::Tensor denominator = squares.sqrt().div_(std::pow(correction2, 0.5)).add_(number(options, "eps"));
    parameter.addcdiv_(at.moments[0], denominator, -step_size);
  }
};

// torch/optim/sgd.py, _single_tensor_sgd.
class SGDRule final : public Optimizer::Rule {
 public:
  std::vector<std::string> moment_names() const override { return {"momentum_buffer"}; }
  bool keeps(const std::vector<NamedOption>& options, size_t) const override { return number(options, "momentum") != 0; }
  bool counts_steps() const override { return false; }

  void check(const std::string& name, const Value& value) const override {
    if (name == "lr" || name == "momentum" || name == "dampening" || name == "weight_decay") number(name, value);
    else if (name == "nesterov" || name == "maximize") flag(name, value);
  }

  void apply(const std::vector<NamedOption>& options, double, bool begun, Stretch at) const override {
    const double momentum = number(options, "momentum");
    const double weight_decay = number(options, "weight_decay");
    at::Tensor gradient = flag(options, "maximize") ? at.gradient.neg() : at.gradient;
    if (weight_decay != 0) gradient = gradient.add(at.parameter, weight_decay);
    if (momentum != 0) {
      const at::Tensor& buffer = at.moments[0];
      if (begun) buffer.mul_(momentum).add_(gradient, 1 - number(options, "dampening"));
      else buffer.copy_(gradient);
      gradient = flag(options, "nesterov") ? gradient.add(buffer, momentum) : buffer;
    }
    at.parameter.add_(gradient, -number(options, "lr"));
  }
};

}  // namespace

struct Optimizer::State {
  struct Entry {
    NamedParameter parameter;
    size_t group = 0;
    size_t leaf = 0;
    Range held;        // in the leaf, as one row of elements
    at::Tensor steps;  // 0-dim float32; undefined where the rule counts none
    bool begun = false;
  };
  // What has one gradient: a unit's shard, or a parameter outside units.
  struct Leaf {
    at::Tensor tensor;
    std::shared_ptr<FlatUnit> unit;
    std::vector<at::Tensor> moments;  // like `tensor`; undefined until a group keeps them
    std::vector<size_t> entries;      // in the order of the leaf
  };

  std::unique_ptr<Rule> rule;
  std::vector<Entry> entries;  // in the model's order
  std::vector<Leaf> leaves;
  std::vector<std::vector<NamedOption>> groups;

  void add_parameters(ModuleRef model, const std::vector<NamePredicate>& predicates);
  void drop_empty_rest(size_t predicates);
  void allocate_moments();
  std::vector<NamedState> state_of(const Entry& entry) const;
  void step(Leaf& leaf) const;
};

namespace {

size_t group_of(const std::string& name, const std::vector<NamePredicate>& predicates) {
  for (size_t i = 0; i < predicates.size(); ++i) {
    if (!predicates[i] || predicates[i](name)) return i;
  }
  return predicates.size();
}

}  // namespace

void Optimizer::State::add_parameters(ModuleRef model, const std::vector<NamePredicate>& predicates) {
  std::map<const void*, size_t> leaf_index;
  for (NamedParameter& parameter : named_parameters(model)) {
    const bool trainable = parameter.unit ? parameter.unit->trainable() : parameter.tensor.requires_grad();
    if (!trainable) continue;
    const at::Tensor& tensor = parameter.unit ? parameter.unit->shard() : parameter.tensor;
    const auto [place, is_new] = leaf_index.emplace(tensor.unsafeGetTensorImpl(), leaves.size());
    if (is_new) leaves.push_back({tensor, parameter.unit, std::vector<at::Tensor>(rule->moment_names().size()), {}});
    Entry entry{.group = group_of(parameter.name, predicates), .leaf = place->second};
    if (parameter.unit) {
      const FlatLayout& layout = parameter.unit->layout();
      const int64_t begin = layout.part_offset(parameter.unit->shard_rank(), parameter.index);
      entry.held = {begin, begin + layout.part(parameter.unit->shard_rank(), parameter.index).size()};
    } else {
      entry.held = {0, tensor.numel()};
    }
    if (rule->counts_steps()) entry.steps = at::zeros({}, at::kFloat);
    entry.parameter = std::move(parameter);
    leaves[place->second].entries.push_back(entries.size());
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) {
    throw Error({.code = Code::invalid_argument,
                 .what = "an optimizer over a model without trainable parameters",
                 .hint = "give it the wrapped model rather than a module inside it"});
  }
  for (Leaf& leaf : leaves) {
    std::sort(leaf.entries.begin(), leaf.entries.end(), [&](size_t a, size_t b) { return entries[a].held.begin < entries[b].held.begin; });
  }
}

// Names that no group took form the last group; it is there only if there are such names, or no other groups.
void Optimizer::State::drop_empty_rest(size_t predicates) {
  const bool used = std::any_of(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.group == predicates; });
  if (predicates > 0 && !used) groups.pop_back();
}

void Optimizer::State::allocate_moments() {
  for (Leaf& leaf : leaves) {
    for (size_t i = 0; i < leaf.moments.size(); ++i) {
      const bool kept =
          std::any_of(leaf.entries.begin(), leaf.entries.end(), [&](size_t e) { return rule->keeps(groups[entries[e].group], i); });
      if (kept && !leaf.moments[i].defined()) leaf.moments[i] = at::zeros_like(leaf.tensor.detach());
    }
  }
}

std::vector<NamedState> Optimizer::State::state_of(const Entry& entry) const {
  const Leaf& leaf = leaves[entry.leaf];
  std::vector<NamedState> state;
  if (entry.steps.defined()) state.push_back({"step", entry.steps});
  const auto names = rule->moment_names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (!rule->keeps(groups[entry.group], i)) continue;
    state.push_back({names[i], leaf.unit ? leaf.unit->part_of(leaf.moments[i], entry.parameter.index) : leaf.moments[i]});
  }
  return state;
}

// Neighbours that are treated alike are one stretch, whatever parameters they belong to.
void Optimizer::State::step(Leaf& leaf) const {
  const at::Tensor parameter = leaf.tensor.detach();
  const at::Tensor& gradient = leaf.tensor.grad();
  const bool in_a_row = parameter.is_contiguous() && gradient.is_contiguous();
  const auto row = [&](const at::Tensor& tensor) { return in_a_row && tensor.defined() ? tensor.view({-1}) : tensor; };
  Stretch all{row(parameter), row(gradient), {}};
  for (const at::Tensor& moment : leaf.moments) all.moments.push_back(row(moment));
  for (size_t i = 0; i < leaf.entries.size();) {
    const Entry& first = entries[leaf.entries[i]];
    const double steps = first.steps.defined() ? first.steps.item<float>() : 0;
    Range range = first.held;
    for (++i; i < leaf.entries.size(); ++i) {
      const Entry& next = entries[leaf.entries[i]];
      const bool alike = next.group == first.group && next.begun == first.begun && next.held.begin == range.end &&
                         (!next.steps.defined() || next.steps.item<float>() == steps);
      if (!alike) break;
      range.end = next.held.end;
    }
    const auto& options = groups[first.group];
    if (!in_a_row) {
      rule->apply(options, steps, first.begun, all);
      continue;
    }
    const int64_t blocks = (range.size() + block_numel - 1) / block_numel;
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      const at::NoGradGuard no_grad;  // of the pool's thread
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = range.begin + b * block_numel;
        rule->apply(options, steps, first.begun, all.block(at, std::min(block_numel, range.end - at)));
      }
    });
  }
}

Optimizer::Optimizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;

void Optimizer::step() {
  const at::NoGradGuard no_grad;
  for (State::Leaf& leaf : state_->leaves) {
    if (!leaf.tensor.grad().defined()) continue;
    for (const size_t entry : leaf.entries) {
      if (state_->entries[entry].steps.defined()) state_->entries[entry].steps.add_(1);
    }
    state_->step(leaf);
    for (const size_t entry : leaf.entries) state_->entries[entry].begun = true;
    if (leaf.unit) leaf.unit->shard_changed();
  }
}

void Optimizer::zero_grad() {
  for (State::Leaf& leaf : state_->leaves) leaf.tensor.mutable_grad().reset();
}

std::vector<ParameterState> Optimizer::state() const {
  std::vector<ParameterState> all;
  for (const State::Entry& entry : state_->entries) all.push_back({entry.parameter, state_->state_of(entry), entry.begun});
  return all;
}

void Optimizer::state_loaded(const std::vector<std::string>& names) {
  for (State::Entry& entry : state_->entries) {
    if (std::find(names.begin(), names.end(), entry.parameter.name) != names.end()) entry.begun = true;
  }
}

std::vector<ParameterGroup> Optimizer::groups() const {
  std::vector<ParameterGroup> groups;
  for (const auto& options : state_->groups) groups.push_back({{}, options});
  for (const State::Entry& entry : state_->entries) groups[entry.group].params.push_back(entry.parameter.name);
  return groups;
}

void Optimizer::set_option(size_t group, const std::string& name, const Value& value) {
  if (group >= state_->groups.size()) {
    throw Error({.code = Code::mismatch, .what = "the optimizer has no parameter group " + std::to_string(group)});
  }
  state_->rule->check(name, value);
  auto& options = state_->groups[group];
  const auto known = std::find_if(options.begin(), options.end(), [&](const NamedOption& option) { return option.first == name; });
  if (known == options.end()) options.emplace_back(name, value);
  else known->second = value;
  state_->allocate_moments();
}

void Optimizer::set_lr(double lr) {
  for (size_t i = 0; i < state_->groups.size(); ++i) set_option(i, "lr", lr);
}

namespace {

template <class Group>
std::vector<NamePredicate> predicates_of(const std::vector<Group>& groups) {
  std::vector<NamePredicate> predicates;
  for (const Group& group : groups) predicates.push_back(group.params);
  return predicates;
}

std::vector<NamedOption> stock_options(const AdamWOptions& base, const AdamWGroup& group) {
  const auto betas = group.betas.value_or(base.betas);
  return {{"lr", group.lr.value_or(base.lr)},
          {"betas", Value::tuple({betas.first, betas.second})},
          {"eps", group.eps.value_or(base.eps)},
          {"weight_decay", group.weight_decay.value_or(base.weight_decay)},
          {"amsgrad", group.amsgrad.value_or(base.amsgrad)},
          {"maximize", group.maximize.value_or(base.maximize)},
          {"foreach", Value()},
          {"capturable", false},
          {"differentiable", false},
          {"fused", Value()},
          {"decoupled_weight_decay", true}};
}

std::vector<NamedOption> stock_options(const SGDOptions& base, const SGDGroup& group) {
  return {{"lr", group.lr.value_or(base.lr)},
          {"momentum", group.momentum.value_or(base.momentum)},
          {"dampening", group.dampening.value_or(base.dampening)},
          {"weight_decay", group.weight_decay.value_or(base.weight_decay)},
          {"nesterov", group.nesterov.value_or(base.nesterov)},
          {"maximize", group.maximize.value_or(base.maximize)},
          {"foreach", Value()},
          {"differentiable", false},
          {"fused", Value()}};
}

}  // namespace

// Builds what both optimizers are made of; the last group takes what no other does.
template <class Rule, class Options, class Group>
static auto fill(auto state, ModuleRef model, const Options& options) {
  state->rule = std::make_unique<Rule>();
  const auto predicates = predicates_of(options.groups);
  for (const Group& group : options.groups) state->groups.push_back(stock_options(options, group));
  state->groups.push_back(stock_options(options, Group{}));
  state->add_parameters(model, predicates);
  state->drop_empty_rest(predicates.size());
  state->allocate_moments();
  return state;
}

AdamW::AdamW(ModuleRef model, const AdamWOptions& options)
    : Optimizer(fill<AdamWRule, AdamWOptions, AdamWGroup>(std::make_unique<State>(), model, options)) {}

SGD::SGD(ModuleRef model, const SGDOptions& options)
    : Optimizer(fill<SGDRule, SGDOptions, SGDGroup>(std::make_unique<State>(), model, options)) {
  for (const auto& group : groups()) {
    const bool nesterov = flag(group.options, "nesterov");
    if (!nesterov || (number(group.options, "momentum") > 0 && number(group.options, "dampening") == 0)) continue;
    throw Error({.code = Code::invalid_argument, .what = "nesterov needs momentum and no dampening"});
  }
}

}  // namespace tessera
