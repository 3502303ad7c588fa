// tessera/libtorch/model_state.h: a module's parameters and buffers as a state dict, sharded or not.
// Keys        Stock's names, whatever is wrapped. A tensor of several names has a key for each.
// Kinds       sharded   each rank's boxes of each named parameter, where they lie: no communication, no copy
//             full      whole parameters on every rank, or on rank 0 alone: gathered unit by unit (whole_tensors.h)
//             local     each unit's flat parameter under stock's key, one range a rank: no communication, no copy
//             What lies outside units (ignored parameters, buffers) is whole on every rank under its name, in every kind; rank 0's is
//             saved. Any number of ranks loads each kind. sharded and full have the same keys and load as one another; local needs the same
//             wrapping.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"
#include "tessera/libtorch/whole_tensors.h"

namespace tessera {

enum class Kind : uint8_t { sharded, full, local };

// The model's parameters as parts: what kind full makes whole.
std::vector<ShardPart> shard_parts(ModuleRef model);

// Describes the model's memory. `whole`, of shard_parts(), is used, and needed, for kind full only.
StateDict model_state(ModuleRef model, Kind kind, TensorViews& views, const WholeTensors* whole);

// To call after a load: whole buffers that were gathered before it are stale.
void model_changed(ModuleRef model);

// The shards of one parameter's values, laid out as its part of the unit's shard ("part": 1-D, this rank's elements alone).
TensorLeaf parameter_leaf(const NamedParameter& parameter, const at::Tensor& part, TensorViews& views);
// The same, or, where `whole` has it, the whole of it: nothing on a rank that keeps none. `what` as in ShardPart.
std::optional<TensorLeaf> parameter_leaf(const NamedParameter& parameter, const std::string& what, const at::Tensor& part,
                                         TensorViews& views, const WholeTensors* whole);

}  // namespace tessera
