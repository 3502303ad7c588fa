// examples/names/names_train.cpp: learns from a character's name what kind of character it is, by a convolution with batch normalization.
//   names_train --ranks 2 --epochs 4 --dir runs/names       every rank holds the model, as in DDP
//   names_train --ranks 4 --shards 2 --dir runs/names       goes on from there: two replicas of two shards each
// Saves after each epoch, and goes on from the last one that --dir has.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/max_pool1d.h>
#include <ATen/ops/tensor.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <numeric>
#include <random>

#include "examples/names/names.h"
#include "tessera/checkpoint/checkpoints.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/lr_schedule.h"
#include "tessera/fsdp/optim.h"
#include "tessera/fsdp/policy.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/libtorch/state.h"

namespace {

using tessera::Job;

struct Options {
  int ranks = 1, shards = 0;
  int64_t epochs = 4, batch = 64, names = 0;
  uint64_t seed = 0;
  std::string dir;
};

struct BlockImpl : torch::nn::Module {
  BlockImpl(int64_t in, int64_t out)
      : conv(register_module("conv", torch::nn::Conv1d(torch::nn::Conv1dOptions(in, out, 5).padding(2).bias(false)))),
        norm(register_module("norm", torch::nn::BatchNorm1d(out))) {}
  at::Tensor forward(const at::Tensor& x) { return at::max_pool1d(norm(conv(x)).relu(), 2); }

  torch::nn::Conv1d conv;
  torch::nn::BatchNorm1d norm;
};
TORCH_MODULE(Block);

// Letters [batch, width] → logits [batch, kinds].
struct ClassifierImpl : torch::nn::Module {
  explicit ClassifierImpl(int64_t kinds)
      : letters(register_module("letters", tessera::wrap(torch::nn::Embedding(NameData::alphabet, 32)))),
        first(register_module("first", tessera::wrap(Block(32, 64)))),
        second(register_module("second", tessera::wrap(Block(64, 64)))),
        head(register_module("head", torch::nn::Linear(64, kinds))) {}
  at::Tensor forward(const at::Tensor& names) { return head(second(first(letters(names).transpose(1, 2))).amax(-1)); }

  tessera::Wrapped<torch::nn::EmbeddingImpl> letters;
  tessera::Wrapped<BlockImpl> first, second;
  torch::nn::Linear head;
};
TORCH_MODULE(Classifier);

using Model = tessera::Wrapped<ClassifierImpl>;

double sum_over_ranks(const Job& job, double value) {
  const at::Tensor sum = at::full({1}, value, at::kDouble);
  job.collectives().all_reduce(sum, tessera::Reduce::sum)->wait();
  return sum.item<double>();
}

// This rank's share of [0, size).
std::pair<int64_t, int64_t> share(const Job& job, int64_t size) {
  return {size * job.rank() / job.size(), size * (job.rank() + 1) / job.size()};
}

// The order follows from seed and epoch alone: a resumed epoch sees the batches that it would have seen.
double train_epoch(const Job& job, Model& model, tessera::Optimizer& optim, const Names& names, const Options& options, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(names.kinds.size(0)));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, std::mt19937_64(options.seed + static_cast<uint64_t>(epoch) * 1000003));
  const auto [first, last] = share(job, options.batch);
  const auto batches = static_cast<int64_t>(order.size()) / options.batch;
  double sum = 0;
  for (int64_t batch = 0; batch < batches; ++batch) {
    const auto begin = order.begin() + batch * options.batch;
    const at::Tensor mine = at::tensor(std::vector<int64_t>(begin + first, begin + last));
    const at::Tensor loss =
        at::cross_entropy_loss(model(names.letters.index_select(0, mine)), names.kinds.index_select(0, mine), {}, at::Reduction::Sum);
    // Gradients are averaged over the ranks, so the mean of these is that of the whole batch, however it is divided.
    (loss * (static_cast<double>(job.size()) / static_cast<double>(options.batch))).backward();
    optim.step();
    optim.zero_grad();
    sum += loss.item<double>();
  }
  return sum_over_ranks(job, sum) / static_cast<double>(batches * options.batch);
}

// Buffers are no part of any unit. Each rank's running statistics are of its own samples: from here on all have their mean, and a
// checkpoint has it too.
void average_statistics(const Job& job, Model& model) {
  for (const tessera::NamedBuffer& buffer : tessera::named_buffers(model)) {
    if (buffer.tensor.is_floating_point()) job.collectives().all_reduce(buffer.tensor, tessera::Reduce::mean, buffer.name)->wait();
  }
}

double accuracy(const Job& job, Model& model, const Names& names) {
  const at::NoGradGuard no_grad;
  model->eval();
  const auto [first, last] = share(job, names.kinds.size(0));
  const at::Tensor guessed = model(names.letters.slice(0, first, last)).argmax(1);
  model->train();
  return sum_over_ranks(job, guessed.eq(names.kinds.slice(0, first, last)).sum().item<double>()) / static_cast<double>(names.kinds.size(0));
}

void train(const Job& job, const Options& options) {
  const NameData data = read_names(options.names);
  const auto kinds = static_cast<int64_t>(data.kind_names.size());
  // The model offers its embedding as a unit too; by this policy only blocks become units, and the root keeps the rest.
  auto model = tessera::fsdp(job, [&] { return Classifier(kinds); },
                             {.seed = options.seed,
                              .strategy = options.shards ? tessera::Strategy::hybrid_shard : tessera::Strategy::no_shard,
                              .shards = options.shards,
                              .policy = tessera::wrap_type<BlockImpl>()});
  const auto is_norm_or_bias = [](std::string_view name) { return name.find("norm") != name.npos || name.ends_with("bias"); };
  tessera::SGD optim(model,
                     {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .groups = {{.params = is_norm_or_bias, .weight_decay = 0.0}}});
  tessera::LrSchedule schedule(optim, tessera::step_lr({.step_size = 2, .gamma = 0.2}));  // a step of it is an epoch
  auto state = tessera::state({{"model", model}, {"optim", optim}, {"schedule", schedule}});

  std::optional<tessera::Checkpoints> epochs;
  if (!options.dir.empty()) epochs.emplace(job, options.dir, tessera::CheckpointsOptions{.keep_last = 2});
  const auto done = epochs ? epochs->latest() : std::nullopt;
  if (done) epochs->load(*done, state);
  for (int64_t epoch = done.value_or(0) + 1; epoch <= options.epochs; ++epoch) {
    const double lr = schedule.last_lr().front();
    const double loss = train_epoch(job, model, optim, data.train, options, epoch);
    schedule.step();
    average_statistics(job, model);
    const double right = accuracy(job, model, data.test);
    if (job.rank() == 0) std::printf("epoch=%lld loss=%.9f accuracy=%.4f lr=%g\n", static_cast<long long>(epoch), loss, right, lr);
    if (epochs) epochs->save(epoch, state, {.metrics = {{"accuracy", right}}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Learns the general category of Unicode's characters from their names. Prints one line an epoch.");
  app.add_option("--ranks", options.ranks, "threads of this process, unless a launcher started ranks")->check(CLI::Range(1, 32));
  app.add_option("--shards", options.shards, "ranks that hold a replica together; without it each holds all")->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs, "train until this one")->capture_default_str();
  app.add_option("--names", options.names, "take so many names, a tenth of them for tests; all by default")
      ->check(CLI::Range(1000, 1 << 20));
  app.add_option("--seed", options.seed, "of the weights and of the order of names")->capture_default_str();
  app.add_option("--dir", options.dir, "save after each epoch, and go on from the last that is here");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) ? 2 : 0;
  }
  try {
    if (tessera::launched()) train(tessera::join(), options);
    else tessera::run_ranks(options.ranks, [&](Job& job) { train(job, options); });
    return 0;
  } catch (...) {
    const tessera::Fault fault = tessera::fault_of(std::current_exception());
    std::cerr << "tessera: error: " + tessera::describe(fault) + "\n";
    return tessera::exit_code(fault.code);
  }
}
