#include "examples/gpt/optimizer.h"

namespace {

tessera::AdamWOptions adamw(const Options& options) {
  const auto does_not_decay = [](std::string_view name) { return !decays(name); };
  return {.lr = options.lr, .weight_decay = 0.1, .fused = options.fused, .groups = {{.params = does_not_decay, .weight_decay = 0.0}}};
}

}  // namespace

std::unique_ptr<tessera::Optimizer> make_optimizer(tessera::ModuleRef model, const Options& options) {
  switch (options.optimizer) {
    case OptimizerName::adamw: return std::make_unique<tessera::AdamW>(model, adamw(options));
    case OptimizerName::adam: return std::make_unique<tessera::Adam>(model, tessera::AdamOptions{.lr = options.lr, .fused = options.fused});
    case OptimizerName::sgd:
      return std::make_unique<tessera::SGD>(model, tessera::SGDOptions{.lr = options.lr, .momentum = 0.9, .fused = options.fused});
    case OptimizerName::adagrad:
      return std::make_unique<tessera::Adagrad>(model, tessera::AdagradOptions{.lr = options.lr, .fused = options.fused});
  }
  return nullptr;
}

tessera::LrCurve lr_curve(const Options& options) {
  const int64_t left = options.steps - options.warmup;
  switch (options.schedule) {
    case ScheduleName::constant: return tessera::warmup_then(options.warmup, [](int64_t) { return 1.0; });
    case ScheduleName::cosine: return tessera::warmup_cosine({.warmup = options.warmup, .total = options.steps});
    case ScheduleName::linear: return tessera::warmup_linear({.warmup = options.warmup, .total = options.steps});
    case ScheduleName::step: {
      const int64_t size = options.step_size ? options.step_size : std::max<int64_t>(1, left / 3);
      return tessera::warmup_then(options.warmup, tessera::step_lr({.step_size = size, .gamma = 0.1}));
    }
  }
  return {};
}
