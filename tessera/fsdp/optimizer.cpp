#include "tessera/fsdp/optimizer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <map>

#include "tessera/base/error.h"
#include "tessera/fsdp/optimizer_rule.h"

namespace tessera {

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

  void add_parameters(ModuleRef model, const std::vector<GroupOptions>& plan);
  void allocate_moments();
  at::Tensor part_of(const Entry& entry, const at::Tensor& moment) const;
  std::vector<NamedState> state_of(const Entry& entry) const;
  void step(Leaf& leaf) const;
};

namespace {

// The last takes what no other does.
size_t group_of(const std::string& name, const std::vector<GroupOptions>& groups) {
  size_t i = 0;
  while (i + 1 < groups.size() && groups[i].params && !groups[i].params(name)) ++i;
  return i;
}

}  // namespace

void Optimizer::State::add_parameters(ModuleRef model, const std::vector<GroupOptions>& plan) {
  std::map<const void*, size_t> leaf_index;
  for (NamedParameter& parameter : named_parameters(model)) {
    const bool trainable = parameter.unit ? parameter.unit->trainable() : parameter.tensor.requires_grad();
    if (!trainable) continue;
    const at::Tensor& tensor = parameter.unit ? parameter.unit->shard() : parameter.tensor;
    const auto [place, is_new] = leaf_index.emplace(tensor.unsafeGetTensorImpl(), leaves.size());
    if (is_new) leaves.push_back({tensor, parameter.unit, std::vector<at::Tensor>(rule->moment_names().size()), {}});
    Entry entry{.group = group_of(parameter.name, plan), .leaf = place->second};
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

void Optimizer::State::allocate_moments() {
  for (Leaf& leaf : leaves) {
    for (size_t i = 0; i < leaf.moments.size(); ++i) {
      const bool kept =
          std::any_of(leaf.entries.begin(), leaf.entries.end(), [&](size_t e) { return rule->keeps(groups[entries[e].group], i); });
      if (!kept || leaf.moments[i].defined()) continue;
      leaf.moments[i] = at::zeros_like(leaf.tensor.detach());
      for (const size_t e : leaf.entries) {
        const double initial = rule->initial(groups[entries[e].group]);
        if (initial != 0) part_of(entries[e], leaf.moments[i]).fill_(initial);
      }
    }
  }
}

at::Tensor Optimizer::State::part_of(const Entry& entry, const at::Tensor& moment) const {
  const auto& unit = entry.parameter.unit;
  return unit ? unit->part_of(moment, entry.parameter.index) : moment;
}

std::vector<NamedState> Optimizer::State::state_of(const Entry& entry) const {
  const Leaf& leaf = leaves[entry.leaf];
  std::vector<NamedState> state;
  if (entry.steps.defined()) state.push_back({"step", entry.steps});
  const auto names = rule->moment_names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (!rule->keeps(groups[entry.group], i)) continue;
    state.push_back({names[i], part_of(entry, leaf.moments[i])});
  }
  return state;
}

// Neighbours that are treated alike are one stretch, whatever parameters they belong to.
void Optimizer::State::step(Leaf& leaf) const {
  const at::Tensor parameter = leaf.tensor.detach();
  const at::Tensor& gradient = leaf.tensor.grad();
  const bool in_a_row = parameter.is_contiguous() && gradient.is_contiguous();
  const auto row = [&](const at::Tensor& tensor) { return in_a_row && tensor.defined() ? tensor.view({-1}) : tensor; };
  Stretch all{.parameter = row(parameter), .gradient = row(gradient), .moments = {}, .in_a_row = in_a_row};
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
    if (range.size() == 0) continue;
    rule->apply(groups[first.group], steps, first.begun, in_a_row ? all.narrow(range.begin, range.size()) : all);
  }
  // For autograd's check of what it saved: what is written past ATen's operations is a change like any other.
  leaf.tensor.unsafeGetTensorImpl()->bump_version();
}

Optimizer::Optimizer(ModuleRef model, std::unique_ptr<Rule> rule, std::vector<GroupOptions> groups) : state_(std::make_unique<State>()) {
  state_->rule = std::move(rule);
  state_->add_parameters(model, groups);
  // The last group is there only if there are names for it, or no other groups.
  const size_t last = groups.size() - 1;
  const bool used = std::ranges::any_of(state_->entries, [&](const State::Entry& entry) { return entry.group == last; });
  if (last > 0 && !used) groups.pop_back();
  for (GroupOptions& group : groups) state_->groups.push_back(std::move(group.options));
  state_->allocate_moments();
}
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

std::vector<at::Tensor> Optimizer::gradients() const {
  std::vector<at::Tensor> gradients;
  for (const State::Leaf& leaf : state_->leaves) {
    if (leaf.tensor.grad().defined()) gradients.push_back(leaf.tensor.grad());
  }
  return gradients;
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
  auto& options = state_->groups[group];
  const auto known = std::ranges::find(options, name, &NamedOption::first);
  if (known == options.end()) {
    options.emplace_back(name, value);
  } else {
    check_option(name, known->second, value);
    known->second = value;
  }
  state_->allocate_moments();
}

void Optimizer::set_lr(double lr) {
  for (size_t i = 0; i < state_->groups.size(); ++i) set_option(i, "lr", lr);
}

}  // namespace tessera
