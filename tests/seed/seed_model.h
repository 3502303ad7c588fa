// tests/seed/seed_model.h: the models that tests shard, behind one face, so that torch/nn is compiled once.
//   skip    PyTorch's own SkipModel(double_nest): linear.weight, linear_skip.lin.weight, nested_linear.nested_linear.weight, each 10 × 10
//   uneven  sizes that no number of ranks divides: rows of 7, 10, 1 and 0, a scalar, units of one element, buffers
//   gpt     examples/gpt with two small blocks; weight decay for matrices only
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/libtorch/state.h"

namespace tessera {

struct SeedOptions {
  uint64_t seed = 100;
  int64_t alignment_bytes = 16;  // as in FsdpOptions
  bool optim = false;            // with an optimizer: keys are then model.… and optim.…
  std::string rule = "adamw";    // which: adamw, adam, sgd, adagrad
  std::optional<at::Device> device = {};  // as in FsdpOptions
};

class SeedModel {
 public:
  virtual ~SeedModel() = default;
  // Every rank makes it.
  static std::unique_ptr<SeedModel> make(const std::string& name, const Job& job, const SeedOptions& options = {});
  virtual State state(Kind kind) = 0;
  // The whole tensors of state(), by key: the same on every rank. Collective.
  virtual std::map<std::string, std::vector<std::byte>> whole() = 0;
  // Steps of the optimizer over some fixed input. Collective.
  virtual void train(int steps) = 0;
};

}  // namespace tessera
