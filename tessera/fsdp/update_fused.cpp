#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>

#include "tessera/fsdp/update.h"

namespace tessera {
namespace {

at::Tensor counted(double step) { return at::full({}, step, at::kFloat); }

}  // namespace

void update_fused(const AdamStep& step, const Stretch& at) {
  const at::Tensor steps = counted(step.step);
  const at::TensorList largest = step.amsgrad ? at::TensorList(at.moments[2]) : at::TensorList();
  const auto kernel = [&](auto fused) {
    fused(at.parameter, at.gradient, at.moments[0], at.moments[1], largest, steps, step.lr, step.beta1, step.beta2, step.weight_decay,
          step.eps, step.amsgrad, step.maximize);
  };
  if (step.decoupled) kernel([](const auto&... all) { at::_fused_adamw_(all...); });
  else kernel([](const auto&... all) { at::_fused_adam_(all...); });
}

void update_fused(const SgdStep& step, const Stretch& at) {
  const at::TensorList buffer = step.momentum != 0 ? at::TensorList(at.moments[0]) : at::TensorList();
  at::_fused_sgd_(at.parameter, at.gradient, buffer, step.weight_decay, step.momentum, step.lr, step.dampening, step.nesterov,
                  step.maximize, !step.begun);
}

void update_fused(const AdagradStep& step, const Stretch& at) {
  at::_fused_adagrad_(at.parameter, at.gradient, at.moments[0], counted(step.step), step.lr, step.lr_decay, step.weight_decay, step.eps,
                      step.maximize);
}

}  // namespace tessera
