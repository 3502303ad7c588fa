// tessera/libtorch/random_state.h: the stream of random numbers of one rank, as part of a checkpoint.
// It is rank-local: each rank gets its own back. With another number of ranks every rank's stream is seeded afresh, from the seed, the
// step and the rank, and the load's report names it under `reset`.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <functional>

#include "tessera/layout/state_dict.h"

namespace tessera {

class RandomState {
 public:
  struct Fresh {
    uint64_t seed = 0;
    int rank = 0;
    std::function<int64_t()> step = {};  // what step it is, when the stream starts afresh; 0 without
  };
  // `generator` is LibTorch's default one of the CPU, unless another is given. (Ranks that are threads share the default one.)
  explicit RandomState(Fresh fresh);
  RandomState(Fresh fresh, at::Generator generator);
  StateDict state_dict() const;
  void load_state_dict(const StateDict& loaded);

 private:
  Fresh fresh_;
  at::Generator generator_;
};

}  // namespace tessera
