// tessera/libtorch/model_state.h: a module's parameters and buffers as a state dict, sharded or not.
// Keys        Stock's names, whatever is wrapped. A tensor of several names has a key for each.
// Kinds       sharded   each rank's boxes of each named parameter, where they lie: no communication, no copy
//             full      whole parameters on every rank: gathered unit by unit; costs a copy of the model on each rank, or on rank 0 alone
//             local     each unit's flat parameter under stock's key, one range a rank: no communication, no copy
//             What lies outside units (ignored parameters, buffers) is whole on every rank under its name, in every kind; one rank's is
//             saved. Any number of ranks loads each kind. sharded and full have the same keys and load as one another; local needs the same
//             wrapping.
#pragma once

#include <cstdint>

#include "tessera/fsdp/module_ref.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"

namespace tessera {

enum class Kind : uint8_t { sharded, full, local };

// Whole copies of a model's sharded parameters, for kind full.
struct WholeCopies {
  struct Copy {
    NamedParameter parameter;
    at::Tensor whole;
  };
  std::vector<Copy> copies;
  // Gathers them. `rank0_only`: other ranks keep none. Collective: every rank calls it.
  WholeCopies(ModuleRef model, bool rank0_only);
  // Copies this rank's part of each back into its shard, after a load has filled them. Collective where rank 0 alone has them: it sends
  // them to the others, unit by unit.
  void write_back() const;

 private:
  void send_from_rank0() const;
  ModuleRef model_;
  bool rank0_only_;
};

// Describes the model's memory. `whole` is used, and needed, for kind full only.
StateDict model_state(ModuleRef model, Kind kind, TensorViews& views, const WholeCopies* whole);

// To call after a load: whole buffers that were gathered before it are stale.
void model_changed(ModuleRef model);

// The shards of one parameter's values, laid out as its part of the unit's shard ("part": 1-D, this rank's elements alone).
TensorLeaf parameter_leaf(const NamedParameter& parameter, const at::Tensor& part, TensorViews& views);

}  // namespace tessera
