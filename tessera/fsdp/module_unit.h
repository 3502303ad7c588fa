// tessera/fsdp/module_unit.h: a wrapped module's part in sharded training: its flat units, made whole and freed together.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tessera/fsdp/autograd_node.h"
#include "tessera/fsdp/unit.h"

namespace torch::nn {
class Module;
}

namespace tessera {

class FsdpContext;

class ModuleUnit final : public GradientReceiver, public std::enable_shared_from_this<ModuleUnit> {
 public:
  // A parameter that a module registered before it became part of this unit.
  struct Registered {
    static constexpr size_t ignored = std::numeric_limits<size_t>::max();
    std::string name;  // in its module: "weight"
    size_t unit;       // in units(); `ignored` where the module itself has it still
    size_t index;      // in that unit's layout
  };
  using Registry = std::unordered_map<const torch::nn::Module*, std::vector<Registered>>;

  // Takes the parameters of `module` that no inner unit has and that are not ignored. Null, and nothing is taken, where there are none,
  // fewer elements than options.min_numel, or where the policy says so of a module of this `name`; `is_root` makes a unit all the same.
  // Throws Error(invalid_argument) where one of them belongs to an inner unit as well.
  static std::shared_ptr<ModuleUnit> take(std::shared_ptr<FsdpContext> context, WrapOptions options, const std::string& name,
                                          torch::nn::Module& module, bool is_root);
  ~ModuleUnit() override;

  FsdpContext& context() const { return *context_; }
  const std::shared_ptr<FsdpContext>& shared_context() const { return context_; }
  const std::vector<std::unique_ptr<FlatUnit>>& units() const { return units_; }
  // The parameters that `module` registered, in its order; empty for a module that is not part of this unit.
  const std::vector<Registered>& registered(const torch::nn::Module& module) const;
  // The dtype that a buffer of a module of this unit was built with.
  at::ScalarType built_dtype(const at::Tensor& buffer) const;
  // Made by fsdp(): its forward is an iteration.
  bool is_root() const { return is_root_; }
  bool reshards_after_forward() const { return tessera::reshards_after_forward(options_.strategy); }
  const WrapOptions& options() const { return options_; }
  // As the module's mode has it now: in the dtype that it was built with, or in the unit's.
  bool is_precise() const;
  // What floating-point inputs and outputs of forward are cast to; nothing where they are left as they are.
  std::optional<at::ScalarType> input_dtype() const;
  std::optional<at::ScalarType> output_dtype() const;

  bool whole() const;
  void launch_unshard();
  void finish_unshard();
  void reshard();
  void reshard_trainable();
  void check_identity() const;

  void attach();  // what forward computes from now on sends its gradients to receive()
  void receive(const std::vector<at::Tensor>& gradients) override;

  int active = 0;  // forwards of this unit under way

 private:
  ModuleUnit(std::shared_ptr<FsdpContext> context, const WrapOptions& options, const torch::nn::Module& module, bool is_root);
  void make_node(const std::shared_ptr<ModuleUnit>& self);
  void place_buffers(torch::nn::Module& module);

  std::shared_ptr<FsdpContext> context_;
  const WrapOptions options_;
  const torch::nn::Module& module_;
  std::vector<std::unique_ptr<FlatUnit>> units_;
  Registry registered_;
  std::unordered_map<const void*, at::ScalarType> cast_buffers_;  // by tensor: what they were
  std::unique_ptr<ParameterNode> node_;  // null where nothing is trainable
  bool is_root_;
};

}  // namespace tessera
