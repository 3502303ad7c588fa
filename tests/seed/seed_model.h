// tests/seed/seed_model.h: the models that the seed tests shard, behind one face, so that torch/nn is compiled once.
//   skip    PyTorch's own SkipModel(double_nest): linear.weight, linear_skip.lin.weight, nested_linear.nested_linear.weight, each 10 × 10
//   uneven  sizes that no number of ranks divides: rows of 7, 10, 1 and 0, a scalar, units of one element, buffers
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tessera/collectives/job.h"
#include "tessera/libtorch/state.h"

namespace tessera {

class SeedModel {
 public:
  virtual ~SeedModel() = default;
  // Every rank makes it. `alignment_bytes` as in FsdpOptions.
  static std::unique_ptr<SeedModel> make(const std::string& name, const Job& job, uint64_t seed, int64_t alignment_bytes);
  virtual State state(Kind kind) = 0;
  // The whole parameters and buffers by name, as bytes: the same on every rank. Collective.
  virtual std::map<std::string, std::vector<std::byte>> whole() = 0;
};

}  // namespace tessera
