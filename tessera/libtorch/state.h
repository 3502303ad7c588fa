// tessera/libtorch/state.h: everything that a training job saves, as one state.
//   auto train = tessera::state({{"model", model}, {"optim", optim}, {"data", data}});
//   steps.save(n, train);  …  steps.load(*step, train);
// A part is a module (in any holder), one of our optimizers, one of torch::optim's, a Value (saved by its nesting), or anything
// with state_dict() and load_state_dict(). `state(model)` alone has the model's bare names, as stock's model.state_dict().
// Lifetime    Parts are borrowed: they outlive the State. A State can be used any number of times.
// Collective  state_dict() of kind full gathers: every rank calls it. (save() and load() do.)
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/optim.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/model_state.h"

namespace tessera {

struct StateOptions {
  Kind kind = Kind::sharded;
  // Of kind full: rank 0 alone holds, saves and loads whole tensors, and sends each rank its part after a load. Others have the rest.
  bool rank0_only = false;
};

// One thing in a state: how to describe it and how it takes a loaded state over.
class StatePart {
 public:
  StatePart(ModuleRef model);
  StatePart(Optimizer& optimizer);
  StatePart(torch::optim::Optimizer& optimizer, ModuleRef model);  // `model`: whose leaves it steps, for their names
  StatePart(Value& nested);
  template <class Holder>
    requires(!Stateful<Holder> && std::constructible_from<ModuleRef, Holder&>)
  StatePart(Holder& model) : StatePart(ModuleRef(model)) {}
  template <Stateful T>
  StatePart(T& object)
      : describe([&object](const StateOptions&, TensorViews&) -> StateDict { return object.state_dict(); }),
        apply([&object](const StateDict& loaded) { object.load_state_dict(loaded); }) {}

  std::function<StateDict(const StateOptions&, TensorViews&)> describe;
  std::function<void(const StateDict&)> apply;
};

class State {
 public:
  // A part with an empty name puts its keys at the top.
  State(std::vector<std::pair<std::string, StatePart>> parts, const StateOptions& options);
  StateDict state_dict();
  void load_state_dict(const StateDict& loaded);

 private:
  std::vector<std::pair<std::string, StatePart>> parts_;
  StateOptions options_;
  TensorViews views_;  // of the last state_dict()
};

State state(ModuleRef model, const StateOptions& options = {});
State state(std::initializer_list<std::pair<std::string, StatePart>> parts, const StateOptions& options = {});

}  // namespace tessera
