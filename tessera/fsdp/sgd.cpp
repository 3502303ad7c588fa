#include "tessera/fsdp/sgd.h"

#include "tessera/base/error.h"
#include "tessera/fsdp/optimizer_rule.h"
#include "tessera/fsdp/update.h"

namespace tessera {
namespace {

class SgdRule final : public Optimizer::Rule {
 public:
  std::vector<std::string> moment_names() const override { return {"momentum_buffer"}; }
  bool keeps(const std::vector<NamedOption>& options, size_t) const override { return number(options, "momentum") != 0; }
  bool counts_steps() const override { return false; }
  double initial(const std::vector<NamedOption>&) const override { return 0; }

  void apply(const std::vector<NamedOption>& options, double, bool begun, const Stretch& at) const override {
    const SgdStep step{.lr = number(options, "lr"),
                       .momentum = number(options, "momentum"),
                       .dampening = number(options, "dampening"),
                       .weight_decay = number(options, "weight_decay"),
                       .nesterov = flag(options, "nesterov"),
                       .maximize = flag(options, "maximize"),
                       .begun = begun};
    update(step, at, is_fused(options));
  }
};

std::vector<NamedOption> stock_options(const SGDOptions& all, const SGDGroup& group) {
  const double momentum = not_negative("momentum", group.momentum.value_or(all.momentum));
  const double dampening = group.dampening.value_or(all.dampening);
  const bool nesterov = group.nesterov.value_or(all.nesterov);
  if (nesterov && !(momentum > 0 && dampening == 0)) {
    throw Error({.code = Code::invalid_argument, .what = "nesterov needs momentum and no dampening"});
  }
  return {{"lr", not_negative("lr", group.lr.value_or(all.lr))},
          {"momentum", momentum},
          {"dampening", dampening},
          {"weight_decay", not_negative("weight_decay", group.weight_decay.value_or(all.weight_decay))},
          {"nesterov", nesterov},
          {"maximize", group.maximize.value_or(all.maximize)},
          {"foreach", Value()},
          {"differentiable", false},
          {"fused", fused_option(all.fused)}};
}

}  // namespace

SGD::SGD(ModuleRef model, const SGDOptions& options)
    : Optimizer(model, std::make_unique<SgdRule>(), describe_groups(options, stock_options)) {}

}  // namespace tessera
