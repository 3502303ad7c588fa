// examples/gpt/train_step.h: forward and backward over a global batch that is divided over the ranks, evenly or not.
#pragma once

#include <ATen/ops/full.h>

#include <optional>

#include "examples/gpt/gpt.h"
#include "examples/gpt/text.h"
#include "tessera/collectives/job.h"
#include "tessera/fsdp/no_sync.h"

// The next `batch` samples of the text, this rank's share of them, cut into `accumulate` micro-batches whose gradients are reduced once,
// after the last. Gradients are then those of the global mean loss, which is returned.
// Ranks' gradients are averaged; a rank's loss is its token sum × N / global tokens, so that their mean is the global mean whatever the
// shares. Who has no samples takes one and counts it as nothing: every rank has a part in every collective all the same.
// `model` is a Gpt, wrapped or plain, on `device`.
template <class Model>
double forward_backward(const tessera::Job& job, Model& model, const Text& text, int64_t batch, int64_t seq, int accumulate = 1,
                        at::Device device = at::kCPU) {
  const int64_t first = batch * job.rank() / job.size();
  const int64_t mine = batch * (job.rank() + 1) / job.size() - first;
  const auto tokens = static_cast<double>(batch * seq);
  double loss = 0;
  for (int micro = 0; micro < accumulate; ++micro) {
    std::optional<tessera::NoSync> quiet;
    if (micro + 1 < accumulate) quiet.emplace(model);
    const int64_t from = first + mine * micro / accumulate;
    const int64_t to = first + mine * (micro + 1) / accumulate;
    const at::Tensor samples = (from == to ? text.samples(0, 1) : text.samples(from, to)).to(device);
    at::Tensor sum = cross_entropy_sum(model(samples.narrow(1, 0, seq)), samples.narrow(1, 1, seq));
    if (from == to) sum = sum * 0;
    (sum * (job.size() / tokens)).backward();
    loss += sum.template item<double>();
  }
  const at::Tensor total = at::full({1}, loss, at::kDouble);
  job.collectives().all_reduce(total, tessera::Reduce::sum)->wait();
  return total.template item<double>() / tokens;
}
