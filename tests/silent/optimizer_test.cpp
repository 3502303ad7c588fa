// Optimizer state that nobody sees go: left empty by a load, or moved by being read. stock.py shows both in stock PyTorch.
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/wrap.h"
#include "tessera/libtorch/state.h"
#include "tessera/storage/memory_storage.h"

namespace tessera {
namespace {

struct NetImpl : torch::nn::Module {
  NetImpl() : first(register_module("first", wrap(torch::nn::Linear(5, 7)))), last(register_module("last", torch::nn::Linear(7, 3))) {}
  at::Tensor forward(const at::Tensor& x) { return last(first(x).relu()); }
  Wrapped<torch::nn::LinearImpl> first;
  torch::nn::Linear last;
};
TORCH_MODULE(Net);
using Model = Wrapped<NetImpl>;

// One of the optimizers, by the few things that a test does with it.
struct Tried {
  std::shared_ptr<void> optimizer;
  std::function<void()> step;
  std::function<State()> state;
};
using Make = std::function<Tried(Model&)>;

template <class T>
Tried ours(Model& model, std::shared_ptr<T> optimizer) {
  return {optimizer,
          [optimizer] {
            optimizer->step();
            optimizer->zero_grad();
          },
          [optimizer, &model] { return state({{"model", model}, {"optim", *optimizer}}); }};
}
template <class T>
Tried torchs(Model& model, std::shared_ptr<T> optimizer) {
  return {optimizer,
          [optimizer] {
            optimizer->step();
            optimizer->zero_grad();
          },
          [optimizer, &model] { return state({{"model", model}, {"optim", StatePart(*optimizer, model)}}); }};
}

const std::vector<std::pair<const char*, Make>> all_optimizers = {
    {"AdamW", [](Model& model) { return ours(model, std::make_shared<AdamW>(model, AdamWOptions{.lr = 0.05})); }},
    {"SGD",
     [](Model& model) { return ours(model, std::make_shared<SGD>(model, SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.5})); }},
    {"Adam", [](Model& model) { return ours(model, std::make_shared<Adam>(model, AdamOptions{.lr = 0.05, .amsgrad = true})); }},
    {"Adagrad", [](Model& model) { return ours(model, std::make_shared<Adagrad>(model, AdagradOptions{.lr = 0.05, .lr_decay = 0.1})); }},
    {"torch::optim::AdamW",
     [](Model& model) {
       return torchs(model, std::make_shared<torch::optim::AdamW>(model->parameters(), torch::optim::AdamWOptions(0.05)));
     }},
    {"torch::optim::SGD",
     [](Model& model) {
       return torchs(model,
                     std::make_shared<torch::optim::SGD>(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9).dampening(0.5)));
     }},
};

void train(Model& model, Tried& optimizer, int steps) {
  for (int i = 0; i < steps; ++i) {
    model(at::ones({4, 5}) * at::full({4, 1}, 0.5)).square().sum().backward();
    optimizer.step();
  }
}

// Every byte of this rank's tensors, by key.
std::map<std::string, Bytes> bytes_of_tensors(State& state) {
  std::map<std::string, Bytes> all;
  const StateDict described = state.state_dict();
  for (const auto& [key, leaf] : described.leaves) {
    const auto* tensor = std::get_if<TensorLeaf>(&leaf.is);
    if (!tensor) continue;
    for (const Shard& shard : tensor->shards)
      for_each_run(shard.view, [&](std::span<std::byte> run) { all[key].insert(all[key].end(), run.begin(), run.end()); });
  }
  return all;
}

std::map<std::string, Bytes> after_two_steps(Job& job, MemoryStorage& storage, const Make& make, bool read_first) {
  auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
  Tried optimizer = make(model);
  if (read_first) {
    State all = optimizer.state();
    save(job, storage, "c", all.state_dict());
  }
  train(model, optimizer, 2);
  State all = optimizer.state();
  return bytes_of_tensors(all);
}

TEST(SilentOptimizer, ReadingTheStateBeforeTheFirstStepChangesNoStepAfterIt) {
  for (const auto& [name, make] : all_optimizers) {
    MemoryStorage storage;
    run_ranks(2, [&](Job& job) {
      EXPECT_EQ(after_two_steps(job, storage, make, true), after_two_steps(job, storage, make, false)) << name << " on rank " << job.rank();
    });
  }
}

TEST(SilentOptimizer, EveryMomentAndStepComesBackIntoAFreshOptimizer) {
  for (const auto& [name, make] : all_optimizers) {
    MemoryStorage storage;
    std::vector<std::map<std::string, Bytes>> saved(2);
    run_ranks(2, [&](Job& job) {
      auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
      Tried optimizer = make(model);
      train(model, optimizer, 3);
      State all = optimizer.state();
      save(job, storage, "c", all.state_dict());
      saved[static_cast<size_t>(job.rank())] = bytes_of_tensors(all);
    });
    run_ranks(2, [&](Job& job) {
      auto model = fsdp(job, [] { return Net(); }, {.seed = 2});
      Tried optimizer = make(model);
      State all = optimizer.state();
      StateDict into = all.state_dict();
      const LoadReport report = load(job, storage, "c", into);
      all.load_state_dict(into);
      EXPECT_THAT(report.missing, testing::IsEmpty());
      EXPECT_THAT(report.unexpected, testing::IsEmpty());
      EXPECT_EQ(bytes_of_tensors(all), saved[static_cast<size_t>(job.rank())]) << name;
      State again = optimizer.state();  // described anew, and not from what the load filled
      EXPECT_EQ(bytes_of_tensors(again), saved[static_cast<size_t>(job.rank())]) << name;
    });
  }
}

}  // namespace
}  // namespace tessera
