#include "tessera/fsdp/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tessera/base/error.h"
#include "tessera/fsdp/group_options.h"
#include "tessera/fsdp/optimizer.h"

namespace tessera {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw Error({.code = Code::invalid_argument, .what = what});
}

double share(int64_t step, int64_t total) { return static_cast<double>(std::min(step, total)) / static_cast<double>(total); }

Value list_of(const std::vector<double>& numbers) { return Value::list({numbers.begin(), numbers.end()}); }

// A decay that takes as many steps as are left after the warm-up.
LrCurve warmed_up(const WarmupDecay& options, const std::function<LrCurve(int64_t steps)>& decay) {
  require(options.total > options.warmup, "a schedule must be longer than its warm-up");
  return warmup_then(options.warmup, decay(options.total - options.warmup), options.start_factor);
}

}  // namespace

LrCurve constant_lr(const ConstantLR& options) {
  require(options.factor >= 0 && options.factor <= 1, "a constant factor is at least 0 and at most 1");
  return [options](int64_t step) { return step < options.total_iters ? options.factor : 1.0; };
}

LrCurve linear_lr(const LinearLR& options) {
  require(options.total_iters > 0, "a linear schedule takes at least one step");
  require(options.start_factor >= 0 && options.start_factor <= 1, "a linear schedule starts at a factor from 0 to 1");
  require(options.end_factor >= 0 && options.end_factor <= 1, "a linear schedule ends at a factor from 0 to 1");
  return [options](int64_t step) {
    const auto [start, end, total] = options;
    return start + (end - start) * static_cast<double>(std::min(total, step)) / static_cast<double>(total);
  };
}

LrCurve cosine_annealing_lr(const CosineAnnealingLR& options) {
  require(options.T_max > 0, "a cosine schedule takes at least one step");
  return [options](int64_t step) {
    return options.min_ratio + (1 - options.min_ratio) * (1 + std::cos(std::numbers::pi * share(step, options.T_max))) / 2;
  };
}

LrCurve step_lr(const StepLR& options) {
  require(options.step_size > 0, "the steps of a schedule are at least one long");
  return [options](int64_t step) { return std::pow(options.gamma, static_cast<double>(step / options.step_size)); };
}

LrCurve sequential_lr(std::vector<LrCurve> curves, std::vector<int64_t> milestones) {
  require(!curves.empty() && curves.size() == milestones.size() + 1, "a sequence of schedules has a milestone before each but the first");
  require(std::ranges::is_sorted(milestones), "the milestones of a sequence of schedules are in order");
  return [curves = std::move(curves), milestones = std::move(milestones)](int64_t step) {
    const auto passed = std::ranges::upper_bound(milestones, step);
    return curves[static_cast<size_t>(passed - milestones.begin())](passed == milestones.begin() ? step : step - *(passed - 1));
  };
}

LrCurve warmup_then(int64_t warmup, LrCurve then, double start_factor) {
  require(warmup >= 0, "a warm-up has no negative length");
  if (warmup == 0) return then;
  return sequential_lr({linear_lr({.start_factor = start_factor, .end_factor = 1, .total_iters = warmup}), std::move(then)}, {warmup});
}

LrCurve warmup_cosine(const WarmupDecay& options) {
  return warmed_up(options, [&](int64_t steps) { return cosine_annealing_lr({.T_max = steps, .min_ratio = options.min_ratio}); });
}

LrCurve warmup_linear(const WarmupDecay& options) {
  return warmed_up(options,
                   [&](int64_t steps) { return linear_lr({.start_factor = 1, .end_factor = options.min_ratio, .total_iters = steps}); });
}

LrSchedule::LrSchedule(Optimizer& optimizer, LrCurve curve) : optimizer_(optimizer), curve_(std::move(curve)) {
  const std::vector<ParameterGroup> groups = optimizer.groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    const Value* initial = find_option(groups[g].options, "initial_lr");
    base_lrs_.push_back(initial ? as_number("initial_lr", *initial) : number(groups[g].options, "lr"));
    optimizer.set_option(g, "initial_lr", base_lrs_.back());
  }
  apply();
}

void LrSchedule::apply() {
  const std::vector<double> rates = last_lr();
  for (size_t g = 0; g < rates.size(); ++g) optimizer_.set_option(g, "lr", rates[g]);
}

void LrSchedule::step() {
  ++last_epoch_;
  apply();
}

std::vector<double> LrSchedule::last_lr() const {
  const double factor = curve_(last_epoch_);
  std::vector<double> rates;
  for (const double base : base_lrs_) rates.push_back(base * factor);
  return rates;
}

StateDict LrSchedule::state_dict() const {
  StateDict state;
  state.add("last_epoch", Value(last_epoch_));
  state.add("base_lrs", list_of(base_lrs_));
  state.add("_step_count", Value(last_epoch_ + 1));
  state.add("_last_lr", list_of(last_lr()));
  return state;
}

void LrSchedule::load_state_dict(const StateDict& loaded) {
  std::vector<double> base_lrs = base_lrs_;
  if (const Value* value = loaded.object("base_lrs")) {
    const auto* list = value->as<Value::Sequence>();
    if (list == nullptr || list->items.size() != base_lrs.size()) {
      throw Error({.code = Code::mismatch,
                   .what = "base_lrs is " + to_string(*value) + " and the optimizer has " + std::to_string(base_lrs.size()) + " groups"});
    }
    for (size_t g = 0; g < base_lrs.size(); ++g) base_lrs[g] = as_number("base_lrs", list->items[g]);
  }
  if (const Value* value = loaded.object("last_epoch")) last_epoch_ = static_cast<int64_t>(as_number("last_epoch", *value));
  base_lrs_ = std::move(base_lrs);
  apply();
}

}  // namespace tessera
