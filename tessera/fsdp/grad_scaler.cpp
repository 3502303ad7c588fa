#include "tessera/fsdp/grad_scaler.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <torch/optim/optimizer.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/fsdp/group_options.h"
#include "tessera/fsdp/optimizer.h"

namespace tessera {
namespace {

Error refused(const char* what) { return Error({.code = Code::invalid_argument, .what = what}); }

}  // namespace

GradScaler::GradScaler(const Job& job, const GradScalerOptions& options)
    : job_(job), options_(options), scale_(static_cast<float>(options.init_scale)) {
  if (!options.enabled) return;
  if (!(options.growth_factor > 1)) throw refused("growth_factor of a gradient scaler must be above 1");
  if (!(options.backoff_factor < 1)) throw refused("backoff_factor of a gradient scaler must be below 1");
}

at::Tensor GradScaler::scale(const at::Tensor& loss) const { return options_.enabled ? loss.mul(at::full({}, scale_, at::kFloat)) : loss; }

void GradScaler::unscale_(Optimizer& optimizer) { unscale(&optimizer, optimizer.gradients()); }

void GradScaler::unscale_(torch::optim::Optimizer& optimizer) {
  std::vector<at::Tensor> gradients;
  for (const auto& group : optimizer.param_groups()) {
    for (const at::Tensor& parameter : group.params()) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  }
  unscale(&optimizer, gradients);
}

void GradScaler::unscale(const void* optimizer, const std::vector<at::Tensor>& gradients) {
  if (!options_.enabled) return;
  Progress& progress = progress_[optimizer];
  if (progress.stepped) throw refused("unscale_() is called after step()");
  if (progress.unscaled) throw refused("unscale_() has already been called on this optimizer since the last update()");
  const at::NoGradGuard no_grad;
  const at::TensorOptions beside = at::TensorOptions(at::kFloat).device(gradients.empty() ? at::kCPU : gradients.front().device());
  at::Tensor found_inf = at::zeros({1}, beside);
  const at::Tensor inverse = at::full({}, 1.0 / static_cast<double>(scale_), beside);
  for (const at::Tensor& gradient : gradients) at::_amp_foreach_non_finite_check_and_unscale_(gradient, found_inf, inverse);
  found_inf = found_inf.cpu();  // wherever each rank's gradients are
  job_.collectives().all_reduce(found_inf, Reduce::max)->wait();
  progress = {.found_inf = found_inf.item<float>() != 0, .unscaled = true, .stepped = false};
}

bool GradScaler::step(Optimizer& optimizer) { return step_unless_infinite(optimizer); }
bool GradScaler::step(torch::optim::Optimizer& optimizer) { return step_unless_infinite(optimizer); }

template <class AnyOptimizer>
bool GradScaler::step_unless_infinite(AnyOptimizer& optimizer) {
  if (options_.enabled) {
    if (progress_[&optimizer].stepped) throw refused("step() has already been called since the last update()");
    if (!progress_[&optimizer].unscaled) unscale_(optimizer);
    progress_[&optimizer].stepped = true;
    if (progress_[&optimizer].found_inf) return false;
  }
  optimizer.step();
  return true;
}

void GradScaler::update() {
  if (!options_.enabled) return;
  bool checked = false, found_inf = false;
  for (const auto& [optimizer, progress] : progress_) {
    checked |= progress.unscaled;
    found_inf |= progress.found_inf;
  }
  if (!checked) throw refused("update() before any gradient was unscaled");
  if (found_inf) {
    scale_ = static_cast<float>(scale_ * options_.backoff_factor);
    growth_tracker_ = 0;
  } else if (++growth_tracker_ == options_.growth_interval) {
    const auto grown = static_cast<float>(scale_ * options_.growth_factor);
    if (std::isfinite(grown)) scale_ = grown;
    growth_tracker_ = 0;
  }
  progress_.clear();
}

void GradScaler::update(double new_scale) {
  if (!options_.enabled) return;
  scale_ = static_cast<float>(new_scale);
  progress_.clear();
}

StateDict GradScaler::state_dict() const {
  StateDict state;
  if (!options_.enabled) return state;
  state.add("scale", Value(static_cast<double>(scale_)));
  state.add("growth_factor", Value(options_.growth_factor));
  state.add("backoff_factor", Value(options_.backoff_factor));
  state.add("growth_interval", Value(options_.growth_interval));
  state.add("_growth_tracker", Value(growth_tracker_));
  return state;
}

void GradScaler::load_state_dict(const StateDict& loaded) {
  if (!options_.enabled) return;
  const auto read = [&](const char* key, auto& into) {
    if (const Value* value = loaded.object(key)) into = static_cast<std::decay_t<decltype(into)>>(as_number(key, *value));
  };
  read("scale", scale_);
  read("growth_factor", options_.growth_factor);
  read("backoff_factor", options_.backoff_factor);
  read("growth_interval", options_.growth_interval);
  read("_growth_tracker", growth_tracker_);
}

}  // namespace tessera
