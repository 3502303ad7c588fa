// tessera/fsdp/optimizer.h: what all optimizers have in common: parameters in groups, state by name, options as stock has them.
// Numbers     The operations of Python's for-loop optimizers, in their order and in one pass over memory: from equal gradients the
//             result depends neither on N nor on where shards are cut, and equals stock's bit for bit (float32 and float64; of a
//             bfloat16 parameter ATen's own last bit depends on where its vectors end).
//             `fused` takes ATen's fused kernels instead: within rounding of the others, and equal to stock's fused optimizers but
//             for last bits where ATen's vectors end elsewhere.
// State       By parameter name, as stock keeps it. All of it exists from the start, so it can be loaded into; reading
//             it changes nothing. A parameter whose gradient is undefined is left alone, its step count too; within a unit
//             that was used, an unused parameter has a gradient of zeros (as in stock's FSDP1).
// Groups      A name belongs to the first of `groups` whose `params` takes it (an empty one takes all); names that none takes form
//             the last group. An option that a group does not give is the optimizer's.
// Errors      Constructors throw Error(invalid_argument) where the model shows no trainable parameter, or for options that stock
//             refuses.
// Threads     One thread a rank. A step uses at most at::get_num_threads() threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/fsdp/group_options.h"
#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {

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
  bool begun = false;  // false before the first step or load: stock keeps no state for this parameter yet (but Adagrad's)
};

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
  // Those that are there: of this rank's shards, and of parameters outside units. They are the gradients themselves.
  std::vector<at::Tensor> gradients() const;

  // Every trainable parameter in the model's order. AdamW and Adam keep "step", "exp_avg", "exp_avg_sq", and "max_exp_avg_sq" where
  // the group has amsgrad; SGD keeps "momentum_buffer" where the group has momentum; Adagrad keeps "step" and "sum". All zeros until
  // begun, but Adagrad's sum.
  std::vector<ParameterState> state() const;
  // Says that the state of these parameters was written to, as by a load: an SGD momentum buffer is then updated by the
  // next step, not begun anew. Every rank says it, also where its part is empty.
  void state_loaded(const std::vector<std::string>& names);

  std::vector<ParameterGroup> groups() const;
  // Sets one option of a group. foreach, capturable and differentiable choose between stock's implementations: they are kept
  // and have no effect. An option that is not stock's is kept as well (a schedule's "initial_lr").
  // Throws Error(mismatch) for a value of the wrong type.
  void set_option(size_t group, const std::string& name, const Value& value);
  void set_lr(double lr);  // of every group

  class Rule;  // what one optimizer does to parameters of one group

 protected:
  // `groups`: the last takes what no other does.
  Optimizer(ModuleRef model, std::unique_ptr<Rule> rule, std::vector<GroupOptions> groups);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera
