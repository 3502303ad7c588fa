// tessera/fsdp/update.h: one step of an optimizer over a stretch of elements, in three ways.
//   by operations   ATen's operations, as Python's for-loop optimizers call them one after the other
//   in one pass     the same bits, of float32 and float64, passing over memory once
//   fused           ATen's fused kernels, as stock's fused optimizers call them
// Source      torch/optim/adam.py, sgd.py and adagrad.py of 2.13, _single_tensor_*.
// Threads     Stretches that do not overlap may be updated by several threads at once.
#pragma once

#include <cmath>

#include "tessera/fsdp/stretch.h"

namespace tessera {

// Moments: exp_avg, exp_avg_sq, and max_exp_avg_sq with amsgrad.
struct AdamStep {
  double lr, beta1, beta2, eps, weight_decay;
  bool amsgrad, maximize, decoupled;
  double step;  // counts this one

  double parameter_factor() const { return 1 - lr * weight_decay; }  // of decoupled decay
  double step_size() const { return lr / (1 - std::pow(beta1, step)); }
  double denominator_divisor() const { return std::pow(1 - std::pow(beta2, step), 0.5); }
};

// Moments: the momentum buffer, with momentum.
struct SgdStep {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize, begun;  // before the first step there is no buffer: it begins as the gradient
};

// Moments: sum.
struct AdagradStep {
  double lr, lr_decay, weight_decay, eps;
  bool maximize;
  double step;  // counts this one

  double decayed_lr() const { return lr / (1 + (step - 1) * lr_decay); }
};

void update_by_operations(const AdamStep& step, const Stretch& at);
void update_by_operations(const SgdStep& step, const Stretch& at);
void update_by_operations(const AdagradStep& step, const Stretch& at);

// Whether there are loops for such elements on this machine.
bool goes_in_one_pass(const Stretch& at);
void update_in_one_pass(const AdamStep& step, const Stretch& at);
void update_in_one_pass(const SgdStep& step, const Stretch& at);
void update_in_one_pass(const AdagradStep& step, const Stretch& at);

void update_fused(const AdamStep& step, const Stretch& at);
void update_fused(const SgdStep& step, const Stretch& at);
void update_fused(const AdagradStep& step, const Stretch& at);

template <class Step>
void update(const Step& step, const Stretch& all, bool fused) {
  if (fused && all.in_a_row) return update_fused(step, all);
  if (goes_in_one_pass(all)) return for_each_block(all, one_per_thread(all), [&](const Stretch& at) { update_in_one_pass(step, at); });
  // So small that what the operations of a step touch stays in the cache, and that ATen splits none again.
  for_each_block(all, int64_t{1} << 15, [&](const Stretch& at) { update_by_operations(step, at); });
}

}  // namespace tessera
