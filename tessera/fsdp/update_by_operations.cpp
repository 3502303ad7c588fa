#include <ATen/ops/maximum.h>

#include "tessera/fsdp/update.h"

namespace tessera {

void update_by_operations(const AdamStep& step, const Stretch& at) {
  at::Tensor gradient = step.maximize ? at.gradient.neg() : at.gradient;
  if (step.weight_decay != 0) {
    if (step.decoupled) at.parameter.mul_(step.parameter_factor());
    else gradient = gradient.add(at.parameter, step.weight_decay);
  }
  at.moments[0].lerp_(gradient, 1 - step.beta1);
  at.moments[1].mul_(step.beta2).addcmul_(gradient, gradient, 1 - step.beta2);
  at::Tensor squares = at.moments[1];
  if (step.amsgrad) {
    at::Tensor largest = at.moments[2];
    at::maximum_out(largest, largest, squares);
    squares = largest;
  }
  const at::Tensor denominator = squares.sqrt().div_(step.denominator_divisor()).add_(step.eps);
  at.parameter.addcdiv_(at.moments[0], denominator, -step.step_size());
}

void update_by_operations(const SgdStep& step, const Stretch& at) {
  at::Tensor gradient = step.maximize ? at.gradient.neg() : at.gradient;
  if (step.weight_decay != 0) gradient = gradient.add(at.parameter, step.weight_decay);
  if (step.momentum != 0) {
    const at::Tensor& buffer = at.moments[0];
    if (step.begun) buffer.mul_(step.momentum).add_(gradient, 1 - step.dampening);
    else buffer.copy_(gradient);
    gradient = step.nesterov ? gradient.add(buffer, step.momentum) : buffer;
  }
  at.parameter.add_(gradient, -step.lr);
}

void update_by_operations(const AdagradStep& step, const Stretch& at) {
  at::Tensor gradient = step.maximize ? at.gradient.neg() : at.gradient;
  if (step.weight_decay != 0) gradient = gradient.add(at.parameter, step.weight_decay);
  at.moments[0].addcmul_(gradient, gradient, 1);
  const at::Tensor denominator = at.moments[0].sqrt().add_(step.eps);
  at.parameter.addcdiv_(gradient, denominator, -step.decayed_lr());
}

}  // namespace tessera
