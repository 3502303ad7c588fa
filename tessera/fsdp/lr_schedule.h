// tessera/fsdp/lr_schedule.h: how learning rates change from step to step.
//   tessera::LrSchedule schedule(optim, tessera::warmup_cosine({.warmup = 100, .total = 10000, .min_ratio = 0.1}));
//   for (...) { …; optim.step(); schedule.step(); }
// Curves      Factors of each group's initial learning rate, by the number of steps so far, with the names and formulas of
//             torch.optim.lr_scheduler. They are computed from the number alone, so nothing drifts and any step can be resumed at.
// State       Keys of every stock scheduler: last_epoch, base_lrs, _step_count, _last_lr. The curve is the program's, as in stock.
// Errors      Error(invalid_argument) for curves that stock refuses, Error(mismatch) for the state of another number of groups.
// Threads     Curves may be called from many threads at once; a schedule belongs to one.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tessera/layout/state_dict.h"

namespace tessera {

class Optimizer;

using LrCurve = std::function<double(int64_t step)>;

// `factor` for total_iters steps, then 1.
struct ConstantLR {
  double factor = 1.0 / 3;
  int64_t total_iters = 5;
};
LrCurve constant_lr(const ConstantLR& options);

// From start_factor to end_factor in total_iters steps, and there it stays.
struct LinearLR {
  double start_factor = 1.0 / 3;
  double end_factor = 1;
  int64_t total_iters = 5;
};
LrCurve linear_lr(const LinearLR& options);

// Half a cosine from 1 to min_ratio (stock's eta_min over the initial rate) in T_max steps, and there it stays, where stock's goes up
// again.
struct CosineAnnealingLR {
  int64_t T_max;
  double min_ratio = 0;
};
LrCurve cosine_annealing_lr(const CosineAnnealingLR& options);

// Times gamma after every step_size steps.
struct StepLR {
  int64_t step_size;
  double gamma = 0.1;
};
LrCurve step_lr(const StepLR& options);

// One curve after the other: from milestones[i] on curves[i + 1], which begins at its own step 0.
LrCurve sequential_lr(std::vector<LrCurve> curves, std::vector<int64_t> milestones);

// From start_factor to 1 in `warmup` steps, then `then`. Without steps to warm up it is `then`.
LrCurve warmup_then(int64_t warmup, LrCurve then, double start_factor = 0.01);

// A warm-up, and then down to min_ratio, which is reached after `total` steps in all.
struct WarmupDecay {
  int64_t warmup = 0;
  int64_t total;
  double min_ratio = 0;
  double start_factor = 0.01;
};
LrCurve warmup_cosine(const WarmupDecay& options);
LrCurve warmup_linear(const WarmupDecay& options);

class LrSchedule {
 public:
  // Sets the first rates. The optimizer outlives the schedule. What a group begins with stays in it as "initial_lr", as in stock; a group
  // that has one already begins with that.
  LrSchedule(Optimizer& optimizer, LrCurve curve);
  // Sets the rates for the next step; after the optimizer's.
  void step();
  int64_t last_epoch() const { return last_epoch_; }
  // Of each group.
  std::vector<double> last_lr() const;

  StateDict state_dict() const;
  void load_state_dict(const StateDict& loaded);

 private:
  void apply();

  Optimizer& optimizer_;
  LrCurve curve_;
  std::vector<double> base_lrs_;
  int64_t last_epoch_ = 0;
};

}  // namespace tessera
