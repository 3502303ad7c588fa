// tessera/fsdp/strategy.h: how a unit is spread over the ranks, and what a wrap scope decides for it.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace torch::nn {
class Module;
}

namespace tessera {

enum class Strategy : uint8_t {
  full_shard,            // parameters, gradients and optimizer state are sharded; whole only while the unit computes (ZeRO-3)
  shard_grad_op,         // the same, but parameters stay whole between forward and backward (ZeRO-2)
  no_shard,              // every rank holds all; gradients are averaged (DDP)
  hybrid_shard,          // full_shard among `shards` neighbours; groups of so many ranks are replicas of each other
  hybrid_shard_grad_op,  // shard_grad_op likewise
};
// True where parameters are freed between forward and backward.
constexpr bool reshards_after_forward(Strategy strategy) { return strategy == Strategy::full_shard || strategy == Strategy::hybrid_shard; }
// The same, but for that.
constexpr Strategy kept_after_forward(Strategy strategy) {
  return strategy == Strategy::full_shard     ? Strategy::shard_grad_op
         : strategy == Strategy::hybrid_shard ? Strategy::hybrid_shard_grad_op
                                              : strategy;
}
constexpr bool is_hybrid(Strategy strategy) { return strategy == Strategy::hybrid_shard || strategy == Strategy::hybrid_shard_grad_op; }
const char* name(Strategy strategy);

// What a unit computes and talks in. The shards that the optimizer sees, and checkpoints, keep the dtype of the model as it was built.
struct MixedPrecision {
  std::optional<at::ScalarType> param_dtype = {};   // of floating-point parameters in forward and backward, and of gathers
  std::optional<at::ScalarType> reduce_dtype = {};  // in which gradients are reduced; param_dtype where it is not given
  // What floating-point results of forward are cast to: of the root's, and of units that wrap() gave a mixed precision of their own.
  std::optional<at::ScalarType> output_dtype = {};
  // Of floating-point buffers, from wrapping on; checkpoints hold them in the dtype that they were built with.
  std::optional<at::ScalarType> buffer_dtype = {};
  bool cast_inputs = true;  // floating-point tensors that forward is given become param_dtype, also those inside others (unit_argument.h)
  bool full_in_eval = false;  // a module in eval() computes in the dtype that it was built with
  bool operator==(const MixedPrecision&) const = default;
};

// A module that wrap() was given, before it is decided whether it becomes a unit.
struct WrapCandidate {
  torch::nn::Module& module;
  std::string name;  // as given to wrap(); a module does not know its place in the model yet
  int64_t numel = 0;  // elements of its own, those of inner units left out
};
using WrapPolicy = std::function<bool(const WrapCandidate&)>;  // true: a unit

struct WrapOptions {
  Strategy strategy = Strategy::full_shard;
  // Neighbours that hold a replica together, a divisor of all ranks: hybrid strategies need it, also those of inner scopes.
  int shards = 0;
  // Shards are a multiple of this; below one element it is one element, which gives the boundaries of stock's FSDP1.
  int64_t alignment_bytes = 16;
  // A module with fewer elements of its own (those of inner units do not count) stays part of the unit around it.
  int64_t min_numel = 0;
  // Which modules become units, of those that have min_numel; none: all (policy.h has some). The root always does.
  WrapPolicy policy = {};
  // Units with fewer elements are not freed after forward, as if they had been wrapped with shard_grad_op or its hybrid form: their gathers
  // cost more than their memory.
  int64_t keep_whole_below = 0;
  // So many units are gathered ahead, in the order of the last iteration, while one computes: no more than that and one are under way.
  int prefetch = 1;
  MixedPrecision mixed_precision = {};
  // What the sum of the ranks' gradients is divided by; 0: their number, which gives the mean.
  double gradient_divisor = 0;
  // Units below the root keep their inputs only, and run forward again in backward (recompute.h).
  bool recompute = false;
  // Where units and their buffers live, moved there as they are wrapped; none: where they were built. Job::local_rank() says which GPU is
  // a rank's.
  std::optional<at::Device> device = {};
};

// What a nested scope or a single wrap() changes; the rest is as in the scope around it.
struct WrapOverrides {
  std::string name = {};  // of the module, for policies; of no use in a scope
  std::optional<Strategy> strategy = {};
  std::optional<int64_t> alignment_bytes = {};
  std::optional<int64_t> min_numel = {};
  std::optional<WrapPolicy> policy = {};
  std::optional<int64_t> keep_whole_below = {};
  std::optional<MixedPrecision> mixed_precision = {};
  std::optional<bool> recompute = {};
  // `base` with these changes.
  WrapOptions over(WrapOptions base) const;
};

}  // namespace tessera
