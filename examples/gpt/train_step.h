// examples/gpt/train_step.h: forward and backward over a global batch that is divided over the ranks, evenly or not.
#pragma once

#include <ATen/ops/full.h>

#include "examples/gpt/gpt.h"
#include "examples/gpt/text.h"
#include "tessera/collectives/job.h"

// The next `batch` samples of the text, this rank's share of them. Gradients are then those of the global mean loss, which is returned.
// Ranks' gradients are averaged; a rank's loss is its token sum × N / global tokens, so that their mean is the global mean whatever the
// shares. A rank without samples takes one and counts it as nothing: it has a part in every collective all the same.
// `model` is a Gpt, wrapped or plain.
template <class Model>
double forward_backward(const tessera::Job& job, Model& model, const Text& text, int64_t batch, int64_t seq) {
  const int64_t first = batch * job.rank() / job.size();
  const int64_t last = batch * (job.rank() + 1) / job.size();
  const bool none = first == last;
  const at::Tensor samples = none ? text.samples(0, 1) : text.samples(first, last);
  at::Tensor sum = cross_entropy_sum(model(samples.narrow(1, 0, seq)), samples.narrow(1, 1, seq));
  if (none) sum = sum * 0;
  const auto tokens = static_cast<double>(batch * seq);
  (sum * (job.size() / tokens)).backward();
  const at::Tensor total = at::full({1}, sum.template item<double>(), at::kDouble);
  job.collectives().all_reduce(total, tessera::Reduce::sum)->wait();
  return total.template item<double>() / tokens;
}
