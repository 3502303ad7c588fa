#include "tessera/fsdp/clip_grad_norm.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {
namespace {

// A p-norm that is added up from parts: Σ|x|ᵖ, or the largest |x|.
class NormSum {
 public:
  explicit NormSum(double p) : p_(p) {}
  double sum() const { return sum_; }
  double norm() const { return p_ == 2 ? std::sqrt(sum_) : std::isinf(p_) ? sum_ : std::pow(sum_, 1 / p_); }

  void add_part(double part) {
    if (!std::isinf(p_)) sum_ += part;
    else if (!(part <= sum_) && !std::isnan(sum_)) sum_ = part;  // NaN stays
  }
  void add(const at::Tensor& gradient) {
    constexpr int64_t block = int64_t{1} << 20;  // of which a copy in float64 is made
    if (gradient.numel() == 0) return;
    for (const at::Tensor& some : gradient.reshape({-1}).split(block)) {
      const double norm = at::linalg_vector_norm(some, p_, {}, false, at::kDouble).item<double>();
      add_part(p_ == 2 ? norm * norm : std::isinf(p_) ? norm : std::pow(norm, p_));
    }
  }

 private:
  double p_;
  double sum_ = 0;
};

// The gradients that a model has: shards that differ by rank, those of them that are the first replica's to count, and what every rank
// holds whole.
struct Gradients {
  std::vector<at::Tensor> sharded;
  std::vector<at::Tensor> counted;
  std::vector<at::Tensor> whole;
};

Gradients gradients_of(ModuleRef model) {
  Gradients found;
  for (const NamedFlatUnit& named : flat_units(model)) {
    const at::Tensor& gradient = named.unit->shard().grad();
    if (!gradient.defined()) continue;
    const bool replicated = named.unit->strategy() == Strategy::no_shard;
    (replicated ? found.whole : found.sharded).push_back(gradient);
    if (!replicated && named.unit->replica() == 0) found.counted.push_back(gradient);
  }
  for (const NamedParameter& parameter : parameters_outside_units(model)) {
    if (parameter.tensor.grad().defined()) found.whole.push_back(parameter.tensor.grad());
  }
  return found;
}

double norm_of(const Gradients& gradients, const std::vector<std::shared_ptr<FsdpContext>>& contexts, double p) {
  NormSum sharded(p), whole(p);
  for (const at::Tensor& gradient : gradients.counted) sharded.add(gradient);
  for (const at::Tensor& gradient : gradients.whole) whole.add(gradient);
  NormSum all(p), largest(std::numeric_limits<double>::infinity());
  if (contexts.empty()) {
    all.add_part(whole.sum());
    return all.norm();
  }
  Collectives& collectives = contexts.front()->collectives();
  const at::Tensor mine = at::tensor({sharded.sum(), whole.sum()}, at::kDouble);
  const at::Tensor sums = at::empty({collectives.size(), 2}, at::kDouble);
  collectives.all_gather_into(sums.view({-1}), mine, "norm of the gradients")->wait();
  for (int rank = 0; rank < collectives.size(); ++rank) {
    all.add_part(sums[rank][0].item<double>());
    largest.add_part(sums[rank][1].item<double>());
  }
  all.add_part(largest.sum());
  return all.norm();
}

}  // namespace

double clip_grad_norm_(ModuleRef model, double max_norm, const ClipOptions& options) {
  if (!(options.norm_type > 0)) throw Error({.code = Code::invalid_argument, .what = "clip_grad_norm_ takes a norm_type above 0"});
  const at::NoGradGuard no_grad;
  const Gradients gradients = gradients_of(model);
  const double norm = norm_of(gradients, contexts_below(model), options.norm_type);
  if (options.error_if_nonfinite && !std::isfinite(norm)) {
    throw Error({.code = Code::invalid_argument,
                 .what = "the norm of the gradients is " + std::to_string(norm) + " and cannot be clipped",
                 .hint = "without error_if_nonfinite they are scaled all the same"});
  }
  const double wanted = max_norm / (norm + 1e-6);
  const double scale = wanted > 1.0 ? 1.0 : wanted;  // a norm that is not a number stays visible in the gradients
  for (const auto* list : {&gradients.sharded, &gradients.whole}) {
    for (const at::Tensor& gradient : *list) gradient.mul_(scale);
  }
  return norm;
}

}  // namespace tessera
