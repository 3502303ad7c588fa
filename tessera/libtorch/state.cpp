#include "tessera/libtorch/state.h"

#include <optional>

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

// Whole tensors of kind full, which are written back after a load.
class Whole {
 public:
  // Nothing for the other kinds.
  template <class Parts>
  WholeTensors* gather(const StateOptions& options, Parts parts) {
    tensors_.reset();
    if (options.kind == Kind::full) tensors_.emplace(parts(), options.rank0_only);
    return tensors_ ? &*tensors_ : nullptr;
  }
  // The description keeps them.
  StateDict let_go(StateDict described) {
    if (tensors_) tensors_->let_go();
    return described;
  }
  void write_back() {
    if (tensors_) tensors_->write_back();
    tensors_.reset();
  }

 private:
  std::optional<WholeTensors> tensors_;
};

}  // namespace

StatePart::StatePart(ModuleRef model) {
  const auto whole = std::make_shared<Whole>();
  describe = [model, whole](const StateOptions& options, TensorViews& views) {
    return whole->let_go(model_state(model, options.kind, views, whole->gather(options, [&] { return shard_parts(model); })));
  };
  apply = [model, whole](const StateDict&) {
    whole->write_back();
    model_changed(model);
  };
}

StatePart::StatePart(Optimizer& optimizer) {
  const auto whole = std::make_shared<Whole>();
  describe = [&optimizer, whole](const StateOptions& options, TensorViews& views) {
    return whole->let_go(optimizer_state(optimizer, views, whole->gather(options, [&] { return shard_parts(optimizer); })));
  };
  apply = [&optimizer, whole](const StateDict& loaded) {
    whole->write_back();
    apply_optimizer_state(optimizer, loaded);
  };
}

StatePart::StatePart(torch::optim::Optimizer& optimizer, ModuleRef model) {
  const auto not_begun = std::make_shared<NotBegun>();
  const auto whole = std::make_shared<Whole>();
  describe = [&optimizer, model, not_begun, whole](const StateOptions& options, TensorViews& views) {
    not_begun->clear();
    const auto* gathered = whole->gather(options, [&] { return shard_parts(optimizer, model, *not_begun); });
    return whole->let_go(torch_optimizer_state(optimizer, model, views, *not_begun, gathered));
  };
  apply = [&optimizer, model, not_begun, whole](const StateDict& loaded) {
    whole->write_back();
    apply_torch_optimizer_state(optimizer, model, loaded, *not_begun);
  };
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
  views_.wait();
  return all;
}

void State::load_state_dict(const StateDict& loaded) {
  views_.write_back();
  for (const auto& [name, part] : parts_) part.apply(below(loaded, name));
}

State state(ModuleRef model, const StateOptions& options) { return State({{"", StatePart(model)}}, options); }
State state(std::initializer_list<std::pair<std::string, StatePart>> parts, const StateOptions& options) { return State({parts}, options); }

}  // namespace tessera
