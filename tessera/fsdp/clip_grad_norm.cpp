#include "tessera/fsdp/clip_grad_norm.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {
namespace {

double sum_of_squares(const at::Tensor& gradient) {
  const at::Tensor wide = gradient.detach().to(at::kDouble).reshape({-1});
  return wide.dot(wide).item<double>();
}

// The tensors whose gradients a model has: shards that differ by rank, and what every rank holds alike.
struct Gradients {
  std::vector<at::Tensor> sharded;
  std::vector<at::Tensor> replicated;
};

Gradients gradients_of(ModuleRef model) {
  Gradients found;
  for (const NamedFlatUnit& named : flat_units(model)) {
    const at::Tensor& gradient = named.unit->shard().grad();
    if (!gradient.defined()) continue;
    (named.unit->strategy() == Strategy::no_shard ? found.replicated : found.sharded).push_back(gradient);
  }
  for (const NamedParameter& parameter : named_parameters(model)) {
    if (!parameter.unit && parameter.tensor.grad().defined()) found.replicated.push_back(parameter.tensor.grad());
  }
  return found;
}

double norm_of(const Gradients& gradients, const std::vector<std::shared_ptr<FsdpContext>>& contexts) {
  double squares = 0;
  for (const at::Tensor& gradient : gradients.sharded) squares += sum_of_squares(gradient);
  if (!contexts.empty()) {
    const at::Tensor sum = at::from_blob(&squares, {1}, at::kDouble);
    contexts.front()->collectives().all_reduce(sum, Reduce::sum, "norm of the gradients")->wait();
  }
  for (const at::Tensor& gradient : gradients.replicated) squares += sum_of_squares(gradient);
  return std::sqrt(squares);
}

}  // namespace

double clip_grad_norm_(ModuleRef model, double max_norm) {
  const at::NoGradGuard no_grad;
  const Gradients gradients = gradients_of(model);
  const double norm = norm_of(gradients, contexts_below(model));
  const double wanted = max_norm / (norm + 1e-6);
  const double scale = wanted > 1.0 ? 1.0 : wanted;  // a norm that is not a number stays visible in the gradients
  for (const auto* list : {&gradients.sharded, &gradients.replicated}) {
    for (const at::Tensor& gradient : *list) gradient.mul_(scale);
  }
  return norm;
}

}  // namespace tessera
