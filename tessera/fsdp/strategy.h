// tessera/fsdp/strategy.h: how a unit is spread over the ranks, and what a wrap scope decides for it.
#pragma once

#include <cstdint>
#include <optional>

namespace tessera {

enum class Strategy : uint8_t {
  full_shard,     // parameters, gradients and optimizer state are sharded; whole only while the unit computes (ZeRO-3)
  shard_grad_op,  // the same, but parameters stay whole between forward and backward (ZeRO-2)
  no_shard,       // every rank holds all; gradients are averaged (DDP)
};

struct WrapOptions {
  Strategy strategy = Strategy::full_shard;
  // Shards are a multiple of this; below one element it is one element, which gives the boundaries of stock's FSDP1.
  int64_t alignment_bytes = 16;
  // A module with fewer elements of its own (those of inner units do not count) stays part of the unit around it.
  int64_t min_numel = 0;
  // Gathers the next unit, in the order of the last iteration, while this one computes.
  bool prefetch = true;
};

// What a nested scope or a single wrap() changes; the rest is as in the scope around it.
struct WrapOverrides {
  std::optional<Strategy> strategy = {};
  std::optional<int64_t> alignment_bytes = {};
  std::optional<int64_t> min_numel = {};
  // `base` with these changes.
  WrapOptions over(WrapOptions base) const;
};

}  // namespace tessera
