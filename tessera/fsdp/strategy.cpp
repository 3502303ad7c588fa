#include "tessera/fsdp/strategy.h"

namespace tessera {

const char* name(Strategy strategy) {
  switch (strategy) {
    case Strategy::full_shard: return "full_shard";
    case Strategy::shard_grad_op: return "shard_grad_op";
    case Strategy::no_shard: return "no_shard";
    case Strategy::hybrid_shard: return "hybrid_shard";
    case Strategy::hybrid_shard_grad_op: return "hybrid_shard_grad_op";
  }
  return "?";
}

WrapOptions WrapOverrides::over(WrapOptions base) const {
  base.strategy = strategy.value_or(base.strategy);
  base.alignment_bytes = alignment_bytes.value_or(base.alignment_bytes);
  base.min_numel = min_numel.value_or(base.min_numel);
  if (policy) base.policy = *policy;
  base.keep_whole_below = keep_whole_below.value_or(base.keep_whole_below);
  base.mixed_precision = mixed_precision.value_or(base.mixed_precision);
  base.recompute = recompute.value_or(base.recompute);
  return base;
}

}  // namespace tessera
