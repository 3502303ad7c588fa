// tessera/fsdp/adam.h: AdamW and Adam, which differ in how weights decay: apart from the gradient (decoupled) or as a part of it (L2).
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "tessera/fsdp/optimizer.h"

namespace tessera {

struct AdamGroup {
  NamePredicate params;
  std::optional<double> lr = {};
  std::optional<std::pair<double, double>> betas = {};
  std::optional<double> eps = {};
  std::optional<double> weight_decay = {};
  std::optional<bool> amsgrad = {};
  std::optional<bool> maximize = {};
};
using AdamWGroup = AdamGroup;

struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
  bool maximize = false;
  bool fused = false;
  std::vector<AdamWGroup> groups = {};
};

struct AdamOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
  bool maximize = false;
  bool fused = false;
  std::vector<AdamGroup> groups = {};
};

class AdamW final : public Optimizer {
 public:
  explicit AdamW(ModuleRef model, const AdamWOptions& options = {});
};

class Adam final : public Optimizer {
 public:
  explicit Adam(ModuleRef model, const AdamOptions& options = {});
};

}  // namespace tessera
