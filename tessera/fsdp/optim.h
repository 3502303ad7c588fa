// tessera/fsdp/optim.h: optimizers over the shards of a model, and over parameters outside any unit.
//   auto optim = tessera::AdamW(model, {.lr = 3e-4, .groups = {{.params = is_bias_or_norm, .weight_decay = 0.0}}});
// Numbers     The operations of Python's for-loop optimizers, in their order: from equal gradients the result depends neither
//             on N nor on where shards are cut, and equals stock's bit for bit (float32 and float64; of a bfloat16 parameter
//             ATen's own last bit depends on where its vectors end).
// State       By parameter name, as stock keeps it. All of it exists from the start, so it can be loaded into; reading
//             it changes nothing. A parameter whose gradient is undefined is left alone, its step count too; within a unit
//             that was used, an unused parameter has a gradient of zeros (as in stock's FSDP1).
// Errors      Throws Error(invalid_argument) where the model shows no trainable parameter.
// Groups      A name belongs to the first of `groups` whose `params` takes it (an empty one takes all); names that none takes form the last
// group. Any element-wise torch::optim optimizer works over model->parameters() as well; see check_elementwise.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/layout/value.h"

namespace torch::optim {
class Optimizer;
}

namespace tessera {

using NamePredicate = std::function<bool(std::string_view name)>;

struct AdamWGroup {
  NamePredicate params;
  std::optional<double> lr = {};
  std::optional<std::pair<double, double>> betas = {};
  std::optional<double> eps = {};
  std::optional<double> weight_decay = {};
  std::optional<bool> amsgrad = {};
  std::optional<bool> maximize = {};
};
struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
  bool maximize = false;
  std::vector<AdamWGroup> groups = {};
};

struct SGDGroup {
  NamePredicate params;
  std::optional<double> lr = {};
  std::optional<double> momentum = {};
  std::optional<double> dampening = {};
  std::optional<double> weight_decay = {};
  std::optional<bool> nesterov = {};
  std::optional<bool> maximize = {};
};
struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;
  std::vector<SGDGroup> groups = {};
};

// One tensor of a parameter's state: "exp_avg", "step".
struct NamedState {
  std::string name;
  // "step" is 0-dim float32. Others: in a unit this rank's part, 1-D and laid out as unit->shard_part(index) (its boxes:
  // layout().pieces(shard_rank(), index), less the shard_offset of the first); outside units the parameter's own shape.
  // It is the state itself, not a copy: what is written here is loaded.
  at::Tensor tensor;
};
struct ParameterState {
  NamedParameter parameter;
  std::vector<NamedState> state;
  bool begun = false;  // false before the first step or load: stock keeps no state for this parameter yet
};

// One option of a group by stock's name, as stock saves it: {"betas", (0.9, 0.999)}, {"foreach", None}.
using NamedOption = std::pair<std::string, Value>;
struct ParameterGroup {
  std::vector<std::string> params;  // names, in the model's order
  std::vector<NamedOption> options;  // every one of stock's
};

class Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(Optimizer&&) noexcept;
  // One step from the gradients as they are.
  void step();
  // Gradients become undefined, as in stock.
  void zero_grad();

  // Every trainable parameter in the model's order. AdamW keeps "step", "exp_avg", "exp_avg_sq", and "max_exp_avg_sq" where
  // its group has amsgrad; SGD keeps "momentum_buffer" where its group has momentum. All zeros until begun.
  std::vector<ParameterState> state() const;
  // Says that the state of these parameters was written to, as by a load: an SGD momentum buffer is then updated by the
  // next step, not begun anew. Every rank says it, also where its part is empty.
  void state_loaded(const std::vector<std::string>& names);

  std::vector<ParameterGroup> groups() const;
  // Sets one option of a group. foreach, fused, capturable and differentiable choose between stock's implementations:
  // they are kept and have no effect. An option that is not stock's is kept as well (a scheduler's "initial_lr").
  // Throws Error(mismatch) for a value of the wrong type.
  void set_option(size_t group, const std::string& name, const Value& value);
  void set_lr(double lr);  // of every group

  class Rule;  // what one optimizer does to one range

 protected:
  struct State;
  explicit Optimizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class AdamW final : public Optimizer {
 public:
  explicit AdamW(ModuleRef model, const AdamWOptions& options = {});
};

class SGD final : public Optimizer {
 public:
  explicit SGD(ModuleRef model, const SGDOptions& options = {});
};

// Throws Error(unsupported), by name, for an optimizer that is not element-wise (LBFGS): it would see a shard for the whole.
void check_elementwise(const torch::optim::Optimizer& optimizer);

}  // namespace tessera
