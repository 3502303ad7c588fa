#include "tessera/fsdp/clip_grad_norm.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <cmath>
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
  explicit NormSum(double p, double sum = 0) : p_(p), sum_(sum) {}
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
  double sum_;
};

// The tensors whose gradients a model has: shards that differ by rank, those of them that are the first replica's to count, and what every
// rank holds alike.
struct Gradients {
  std::vector<at::Tensor> sharded;
  std::vector<at::Tensor> counted;
  std::vector<at::Tensor> replicated;
};

Gradients gradients_of(ModuleRef model) {
  Gradients found;
  for (const NamedFlatUnit& named : flat_units(model)) {
    const at::Tensor& gradient = named.unit->shard().grad();
    if (!gradient.defined()) continue;
    const bool replicated = named.unit->strategy() == Strategy::no_shard;
    (replicated ? found.replicated : found.sharded).push_back(gradient);
    if (!replicated && named.unit->replica() == 0) found.counted.push_back(gradient);
  }
  for (const NamedParameter& parameter : named_parameters(model)) {
    if (!parameter.unit && parameter.tensor.grad().defined()) found.replicated.push_back(parameter.tensor.grad());
  }
  return found;
}

double norm_of(const Gradients& gradients, const std::vector<std::shared_ptr<FsdpContext>>& contexts, double p) {
  NormSum mine(p);
  for (const at::Tensor& gradient : gradients.counted) mine.add(gradient);
  NormSum all(p, contexts.empty() ? mine.sum() : 0);
  if (!contexts.empty()) {
    Collectives& collectives = contexts.front()->collectives();
    const at::Tensor sums = at::empty({collectives.size()}, at::kDouble);
    collectives.all_gather_into(sums, at::full({1}, mine.sum(), at::kDouble), "norm of the gradients")->wait();
    for (int64_t rank = 0; rank < sums.numel(); ++rank) all.add_part(sums[rank].item<double>());
  }
  for (const at::Tensor& gradient : gradients.replicated) all.add(gradient);
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
  for (const auto* list : {&gradients.sharded, &gradients.replicated}) {
    for (const at::Tensor& gradient : *list) gradient.mul_(scale);
  }
  return norm;
}

}  // namespace tessera
