// tessera/fsdp/fsdp.h: a model sharded over the ranks of a job.
//   auto model = tessera::fsdp(job, [] { return Gpt(config); }, {.seed = 100});
// `make` runs inside a wrap scope, so that what it wraps becomes a unit; the model itself is the outermost unit and takes
// what is left. It runs on every rank, in turn among ranks that share a process, each time from the same random state: from
// `seed`, or from rank 0's generator as it stands. So every rank, and every number of ranks, starts from the same values.
// Errors      Throws Error(mismatch) on every rank when ranks built different models; what `make` throws on one rank, all throw.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "tessera/collectives/job.h"
#include "tessera/fsdp/wrap.h"

namespace tessera {

// A seed, and the options of the wrap scope, each as in WrapOptions and in the same order.
struct FsdpOptions {
  std::optional<uint64_t> seed = {};
  Strategy strategy = Strategy::full_shard;
  int shards = 0;
  int64_t alignment_bytes = 16;
  int64_t min_numel = 0;
  WrapPolicy policy = {};
  int64_t keep_whole_below = 0;
  int prefetch = 1;
  MixedPrecision mixed_precision = {};
  double gradient_divisor = 0;
  bool recompute = false;
  std::optional<at::Device> device = {};
  WrapOptions wrap() const;
};

// Runs `build` in turn from the job's random state, in a wrap scope; then checks that all ranks built the same.
// `built` names the model once `build` has returned.
void build_in_turn(const Job& job, const FsdpOptions& options, const std::function<std::shared_ptr<Wrapper>()>& build);

template <class Make>
auto fsdp(const Job& job, Make&& make, const FsdpOptions& options = {}) {
  using Made = std::invoke_result_t<Make>;
  const auto pointer = [](const Made& made) {
    if constexpr (requires { made.ptr(); }) return made.ptr();
    else return made;
  };
  using M = typename decltype(pointer(std::declval<const Made&>()))::element_type;
  Wrapped<M> model = nullptr;
  build_in_turn(job, options, [&]() -> std::shared_ptr<Wrapper> {
    model = std::make_shared<WrappedImpl<M>>(pointer(make()), WrapOverrides{}, /*is_root=*/true);
    return model.ptr();
  });
  return model;
}

}  // namespace tessera
