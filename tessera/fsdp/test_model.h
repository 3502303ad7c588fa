// tessera/fsdp/test_model.h: small models for this room's tests, and one process's training of them to compare with.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"

namespace tessera::testing {

// x + second(tanh(first(x)))
struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(int64_t width);
  at::Tensor forward(at::Tensor x);
  at::Tensor first_weight, first_bias, second_weight, second_bias;
};
TORCH_MODULE(Block);

// What sharded training has to cope with: inner units, one of them used twice and one not at all, parameters of the
// outermost unit before and after them, a tied pair, an unused parameter, one with one element and one with none, and a
// parameter that is not contiguous.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int blocks = 3);
  at::Tensor forward(at::Tensor x);
  at::Tensor in, out, unused, scale, nothing;
  std::vector<Wrapped<BlockImpl>> blocks;
  Wrapped<BlockImpl> idle = nullptr;
  std::function<void()> before_block;  // runs before the second block, for tests that throw there
};
TORCH_MODULE(Net);

constexpr int64_t net_width = 6;
constexpr uint64_t net_seed = 100;

// A batch of `rows` for step `step`, the same everywhere.
at::Tensor batch(int step, int64_t rows);
at::Tensor loss(const at::Tensor& output);
// The rows of `whole` that are rank's of `ranks`.
at::Tensor rows_of(const at::Tensor& whole, int rank, int ranks);
constexpr int64_t batch_rows = 12;

// A way to spread a model over ranks.
struct Spread {
  int ranks;
  Strategy strategy;
  int shards;  // of hybrid strategies, else 0
};
// Every strategy on 1 to 4 ranks, hybrid ones with every shape of the mesh.
std::vector<Spread> spreads();
std::string text_of(const Spread& spread);

Net plain_net();
Wrapped<NetImpl> sharded_net(const Job& job, FsdpOptions options = {.seed = net_seed});

// Name → values, of whole parameters, on any rank of the job.
using Values = std::map<std::string, at::Tensor>;
Values values_of(ModuleRef model);
// The gradients of whole parameters, on any rank of the job.
Values gradients_of(ModuleRef model);
// The largest difference of any element; NaN where they do not have the same names and shapes.
double difference(const Values& a, const Values& b);
bool identical(const Values& a, const Values& b);

using MakeOptimizer = std::function<std::unique_ptr<Optimizer>(ModuleRef)>;
inline const MakeOptimizer adamw = [](ModuleRef model) { return std::make_unique<AdamW>(model, AdamWOptions{.lr = 0.01}); };
inline const MakeOptimizer sgd = [](ModuleRef model) {
  return std::make_unique<SGD>(model, SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01});
};

// Trains `steps` steps, each rank on its rows, and returns the parameters.
Values train_alone(const MakeOptimizer& optimizer, int steps);
Values train_sharded(const Job& job, Wrapped<NetImpl>& model, const MakeOptimizer& optimizer, int steps, int first_step = 0);
// The same on `ranks` threads; rank 0's result, after checking that all ranks have the same.
Values train_on(int ranks, const FsdpOptions& options, const MakeOptimizer& optimizer, int steps);

}  // namespace tessera::testing
