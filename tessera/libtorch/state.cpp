#include "tessera/libtorch/state.h"

#include "tessera/base/error.h"
#include "tessera/format/nested.h"
#include "tessera/libtorch/optimizer_state.h"
#include "tessera/libtorch/torch_optimizer_state.h"

namespace tessera {
namespace {

// The leaves of `loaded` below "name.", under their own keys again.
StateDict below(const StateDict& loaded, const std::string& name) {
  if (name.empty()) return loaded;
  StateDict inner;
  const std::string prefix = name + ".";
  for (auto leaf = loaded.leaves.lower_bound(prefix); leaf != loaded.leaves.end() && leaf->first.starts_with(prefix); ++leaf) {
    KeyPath path(leaf->second.path.begin() + 1, leaf->second.path.end());
    inner.add(leaf->first.substr(prefix.size()), leaf->second.is, std::move(path));
  }
  return inner;
}

}  // namespace

StatePart::StatePart(ModuleRef model) {
  // Copies of kind full live from a description until the next one, or until they were written back.
  const auto whole = std::make_shared<std::unique_ptr<WholeCopies>>();
  describe = [model, whole](const StateOptions& options, TensorViews& views) {
    *whole = options.kind == Kind::full ? std::make_unique<WholeCopies>(model, options.rank0_only) : nullptr;
    return model_state(model, options.kind, views, whole->get());
  };
  apply = [model, whole](const StateDict&) {
    if (*whole) (*whole)->write_back();
    whole->reset();
    model_changed(model);
  };
}

StatePart::StatePart(Optimizer& optimizer)
    : describe([&optimizer](const StateOptions&, TensorViews& views) { return optimizer_state(optimizer, views); }),
      apply([&optimizer](const StateDict& loaded) { apply_optimizer_state(optimizer, loaded); }) {}

StatePart::StatePart(torch::optim::Optimizer& optimizer, ModuleRef model) {
  const auto not_begun = std::make_shared<NotBegun>();
  describe = [&optimizer, model, not_begun](const StateOptions&, TensorViews& views) {
    not_begun->clear();
    return torch_optimizer_state(optimizer, model, views, *not_begun);
  };
  apply = [&optimizer, model, not_begun](const StateDict& loaded) { apply_torch_optimizer_state(optimizer, model, loaded, *not_begun); };
}

StatePart::StatePart(Value& nested)
    : describe([&nested](const StateOptions&, TensorViews&) {
        StateDict state;
        for (auto& [path, value] : format::flatten(nested)) state.add(join(path), std::move(value), path);
        return state;
      }),
      apply([&nested](const StateDict& loaded) {
        std::vector<std::pair<KeyPath, Value>> leaves;
        for (const auto& [key, leaf] : loaded.leaves) leaves.emplace_back(leaf.path, std::get<Value>(leaf.is));
        nested = format::unflatten(leaves);
      }) {}

State::State(std::vector<std::pair<std::string, StatePart>> parts, const StateOptions& options)
    : parts_(std::move(parts)), options_(options) {
  if (options.rank0_only && options.kind != Kind::full)
    throw Error({.code = Code::invalid_argument, .what = "a state of rank 0 only is of kind full"});
}

StateDict State::state_dict() {
  StateDict all;
  views_ = TensorViews();
  for (const auto& [name, part] : parts_) {
    StateDict inner = part.describe(options_, views_);
    if (!name.empty()) {
      all.add_all(name, std::move(inner));
      continue;
    }
    for (auto& [key, leaf] : inner.leaves) all.add(key, std::move(leaf.is), std::move(leaf.path));
  }
  return all;
}

void State::load_state_dict(const StateDict& loaded) {
  views_.write_back();
  for (const auto& [name, part] : parts_) part.apply(below(loaded, name));
}

State state(ModuleRef model, const StateOptions& options) { return State({{"", StatePart(model)}}, options); }
State state(std::initializer_list<std::pair<std::string, StatePart>> parts, const StateOptions& options) { return State({parts}, options); }

}  // namespace tessera
