#include "tessera/fsdp/adam.h"

#include "tessera/base/error.h"
#include "tessera/fsdp/optimizer_rule.h"
#include "tessera/fsdp/update.h"

namespace tessera {
namespace {

class AdamRule final : public Optimizer::Rule {
 public:
  std::vector<std::string> moment_names() const override { return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}; }
  bool keeps(const std::vector<NamedOption>& options, size_t moment) const override { return moment < 2 || flag(options, "amsgrad"); }
  bool counts_steps() const override { return true; }
  double initial(const std::vector<NamedOption>&) const override { return 0; }

  void apply(const std::vector<NamedOption>& options, double steps, bool, const Stretch& at) const override {
    const auto [beta1, beta2] = pair_of_numbers(options, "betas");
    const AdamStep step{.lr = number(options, "lr"),
                        .beta1 = beta1,
                        .beta2 = beta2,
                        .eps = number(options, "eps"),
                        .weight_decay = number(options, "weight_decay"),
                        .amsgrad = flag(options, "amsgrad"),
                        .maximize = flag(options, "maximize"),
                        .decoupled = flag(options, "decoupled_weight_decay"),
                        .step = steps};
    update(step, at, is_fused(options));
  }
};

Value checked_betas(const std::pair<double, double>& betas) {
  for (const double beta : {betas.first, betas.second}) {
    if (!(beta >= 0 && beta < 1)) throw Error({.code = Code::invalid_argument, .what = "betas of Adam are at least 0 and less than 1"});
  }
  return Value::tuple({betas.first, betas.second});
}

// Of AdamWOptions or AdamOptions.
template <class Given>
std::vector<GroupOptions> adam_groups(const Given& given, bool decoupled) {
  return describe_groups(given, [decoupled](const Given& all, const AdamGroup& group) -> std::vector<NamedOption> {
    return {{"lr", not_negative("lr", group.lr.value_or(all.lr))},
            {"betas", checked_betas(group.betas.value_or(all.betas))},
            {"eps", not_negative("eps", group.eps.value_or(all.eps))},
            {"weight_decay", not_negative("weight_decay", group.weight_decay.value_or(all.weight_decay))},
            {"amsgrad", group.amsgrad.value_or(all.amsgrad)},
            {"maximize", group.maximize.value_or(all.maximize)},
            {"foreach", Value()},
            {"capturable", false},
            {"differentiable", false},
            {"fused", fused_option(all.fused)},
            {"decoupled_weight_decay", decoupled}};
  });
}

}  // namespace

AdamW::AdamW(ModuleRef model, const AdamWOptions& options) : Optimizer(model, std::make_unique<AdamRule>(), adam_groups(options, true)) {}
Adam::Adam(ModuleRef model, const AdamOptions& options) : Optimizer(model, std::make_unique<AdamRule>(), adam_groups(options, false)) {}

}  // namespace tessera
