// tessera/fsdp/unit_list.h: what a model's units are, and what they take: for people.
// Units       Elements and bytes, of this rank where nothing else is said.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/strategy.h"

namespace tessera {

// One flat buffer, of one wrapped module.
struct UnitInfo {
  std::string name;                     // of its key in a LOCAL checkpoint: "h.0._flat_param"
  std::vector<std::string> parameters;  // names, from where the list starts
  Strategy strategy = Strategy::full_shard;
  bool trainable = true;
  at::ScalarType dtype = at::kFloat;        // of shards
  at::ScalarType param_dtype = at::kFloat;  // of forward and backward
  int64_t numel = 0;
  int64_t padding_bytes = 0;  // of all ranks' shards together, in `dtype`
  int64_t full_bytes = 0;     // while it is whole, padding included, in param_dtype
  int64_t shard_bytes = 0;
  int64_t gradient_bytes = 0;  // of the shard's gradient, as it is now
  bool whole = false;          // now
};
std::vector<UnitInfo> unit_list(ModuleRef model);

// One line a unit: name, parameters, elements, bytes, padding, strategy. Then what lies outside units (ignore.h), which each rank has
// whole.
std::string describe_units(ModuleRef model);

// What the model takes: shards and gradients unit by unit, what lies outside units, then what is whole now and was at its peak
// (unit_counters.h), beside the least that this strategy needs: shards, their gradients, the root, the two largest other units and one
// unit's gradients.
std::string memory_summary(ModuleRef model);

}  // namespace tessera
