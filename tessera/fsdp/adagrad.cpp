#include "tessera/fsdp/adagrad.h"

#include "tessera/fsdp/optimizer_rule.h"
#include "tessera/fsdp/update.h"

namespace tessera {
namespace {

class AdagradRule final : public Optimizer::Rule {
 public:
  std::vector<std::string> moment_names() const override { return {"sum"}; }
  bool keeps(const std::vector<NamedOption>&, size_t) const override { return true; }
  bool counts_steps() const override { return true; }
  double initial(const std::vector<NamedOption>& options) const override { return number(options, "initial_accumulator_value"); }

  void apply(const std::vector<NamedOption>& options, double steps, bool, const Stretch& at) const override {
    const AdagradStep step{.lr = number(options, "lr"),
                           .lr_decay = number(options, "lr_decay"),
                           .weight_decay = number(options, "weight_decay"),
                           .eps = number(options, "eps"),
                           .maximize = flag(options, "maximize"),
                           .step = steps};
    update(step, at, is_fused(options));
  }
};

std::vector<NamedOption> stock_options(const AdagradOptions& all, const AdagradGroup& group) {
  return {{"lr", not_negative("lr", group.lr.value_or(all.lr))},
          {"lr_decay", not_negative("lr_decay", group.lr_decay.value_or(all.lr_decay))},
          {"eps", not_negative("eps", group.eps.value_or(all.eps))},
          {"weight_decay", not_negative("weight_decay", group.weight_decay.value_or(all.weight_decay))},
          {"initial_accumulator_value", not_negative("initial_accumulator_value", all.initial_accumulator_value)},
          {"foreach", Value()},
          {"maximize", group.maximize.value_or(all.maximize)},
          {"differentiable", false},
          {"fused", fused_option(all.fused)}};
}

}  // namespace

Adagrad::Adagrad(ModuleRef model, const AdagradOptions& options)
    : Optimizer(model, std::make_unique<AdagradRule>(), describe_groups(options, stock_options)) {}

}  // namespace tessera
