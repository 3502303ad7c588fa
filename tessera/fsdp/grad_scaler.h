// tessera/fsdp/grad_scaler.h: keeps gradients of float16 away from zero by scaling the loss, as torch.amp.GradScaler does.
//   scaler.scale(loss).backward();
//   scaler.unscale_(optim);  clip_grad_norm_(model, 1.0);   // where gradients are looked at before the step
//   scaler.step(optim);  scaler.update();  optim.zero_grad();
// Promise     A rank whose part of the gradients has an inf or a nan makes all ranks skip the step, and scale alike.
// State       Keys and types of stock's: scale, growth_factor, backoff_factor, growth_interval, _growth_tracker. Save it after update().
// Collective  unscale_(), or step() without it: every rank calls them, in the same order.
// Errors      Error(invalid_argument) for calls out of order, as in stock, and for factors that stock refuses.
// Threads     One thread a rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/layout/state_dict.h"

namespace torch::optim {
class Optimizer;
}

namespace tessera {

class Optimizer;

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;  // steps in a row without inf or nan, after which the scale grows
  bool enabled = true;             // otherwise nothing is scaled and every step is taken
};

class GradScaler {
 public:
  explicit GradScaler(const Job& job, const GradScalerOptions& options = {});
  at::Tensor scale(const at::Tensor& loss) const;
  // Divides the optimizer's gradients by the scale; at most once before its step. Gradients of float16 as well (stock's FSDP does so too).
  void unscale_(Optimizer& optimizer);
  void unscale_(torch::optim::Optimizer& optimizer);
  // The optimizer's step, unless there was an inf or a nan on any rank. False if it was skipped.
  bool step(Optimizer& optimizer);
  bool step(torch::optim::Optimizer& optimizer);
  // Ends an iteration: the scale shrinks after a skipped step, grows after enough others, or is set.
  void update();
  void update(double new_scale);
  double get_scale() const { return options_.enabled ? scale_ : 1.0; }

  StateDict state_dict() const;
  void load_state_dict(const StateDict& loaded);

 private:
  struct Progress {
    bool found_inf = false;  // on any rank
    bool unscaled = false;
    bool stepped = false;
  };

  void unscale(const void* optimizer, const std::vector<at::Tensor>& gradients);
  template <class AnyOptimizer>
  bool step_unless_infinite(AnyOptimizer& optimizer);

  Job job_;
  GradScalerOptions options_;
  float scale_;  // as stock keeps it
  int64_t growth_tracker_ = 0;
  std::map<const void*, Progress> progress_;  // of each optimizer, in this iteration
};

}  // namespace tessera
