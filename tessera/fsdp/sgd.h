// tessera/fsdp/sgd.h: stochastic gradient descent, with momentum, dampening, Nesterov's momentum and L2 decay.
#pragma once

#include <optional>
#include <vector>

#include "tessera/fsdp/optimizer.h"

namespace tessera {

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
  bool fused = false;
  std::vector<SGDGroup> groups = {};
};

class SGD final : public Optimizer {
 public:
  explicit SGD(ModuleRef model, const SGDOptions& options = {});
};

}  // namespace tessera
