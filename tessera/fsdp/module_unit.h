// tessera/fsdp/module_unit.h: a wrapped module's part in sharded training: its flat units, made whole and freed together.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
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
    std::string name;  // in its module: "weight"
    size_t unit;       // in units()
    size_t index;      // in that unit's layout
  };
  using Registry = std::unordered_map<const torch::nn::Module*, std::vector<Registered>>;

  // Takes the parameters of `module` that no inner unit has. Null, and nothing is taken, where there are none or fewer
  // elements than options.min_numel; `is_root` makes a unit all the same.
  // Throws Error(invalid_argument) where one of them belongs to an inner unit as well.
  static std::shared_ptr<ModuleUnit> take(std::shared_ptr<FsdpContext> context, const WrapOptions& options, torch::nn::Module& module,
                                          bool is_root);
  ~ModuleUnit() override;

  FsdpContext& context() const { return *context_; }
  const std::shared_ptr<FsdpContext>& shared_context() const { return context_; }
  const std::vector<std::unique_ptr<FlatUnit>>& units() const { return units_; }
  // The parameters that `module` registered, in its order; empty for a module that is not part of this unit.
  const std::vector<Registered>& registered(const torch::nn::Module& module) const;
  // Made by fsdp(): its forward is an iteration.
  bool is_root() const { return is_root_; }
  bool reshards_after_forward() const { return reshards_after_forward_; }

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
  ModuleUnit(std::shared_ptr<FsdpContext> context, const WrapOptions& options, bool is_root);
  void make_node(const std::shared_ptr<ModuleUnit>& self);

  std::shared_ptr<FsdpContext> context_;
  bool reshards_after_forward_;
  std::vector<std::unique_ptr<FlatUnit>> units_;
  Registry registered_;
  std::unique_ptr<ParameterNode> node_;  // null where nothing is trainable
  bool is_root_;
};

}  // namespace tessera
