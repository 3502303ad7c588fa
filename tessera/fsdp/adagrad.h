// tessera/fsdp/adagrad.h: Adagrad, whose sum of squares is there from the start, as in stock.
#pragma once

#include <optional>
#include <vector>

#include "tessera/fsdp/optimizer.h"

namespace tessera {

struct AdagradGroup {
  NamePredicate params;
  std::optional<double> lr = {};
  std::optional<double> lr_decay = {};
  std::optional<double> eps = {};
  std::optional<double> weight_decay = {};
  std::optional<bool> maximize = {};
};

struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0;
  double weight_decay = 0;
  double initial_accumulator_value = 0;  // of all groups: stock begins with the optimizer's, whatever a group says
  double eps = 1e-10;
  bool maximize = false;
  bool fused = false;
  std::vector<AdagradGroup> groups = {};
};

class Adagrad final : public Optimizer {
 public:
  explicit Adagrad(ModuleRef model, const AdagradOptions& options = {});
};

}  // namespace tessera
