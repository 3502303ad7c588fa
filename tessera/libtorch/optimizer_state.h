// tessera/libtorch/optimizer_state.h: an optimizer's state as a state dict, by parameter name in every kind.
// Kinds       sharded and local: this rank's parts; full: whole tensors, gathered.
// Keys        `state.<name>.<what>` and `param_groups.<i>.<option>`, as stock's get_optimizer_state_dict has them.
// Note        An optimizer that has not stepped yet is described all the same, by zeros, so that it can be loaded into.
#pragma once

#include "tessera/fsdp/optim.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"
#include "tessera/libtorch/whole_tensors.h"

namespace tessera {

// What it keeps in parts, for kind full.
std::vector<ShardPart> shard_parts(const Optimizer& optimizer);
// `whole`: of shard_parts(), for kind full; none for the others, which are alike.
StateDict optimizer_state(const Optimizer& optimizer, TensorViews& views, const WholeTensors* whole);
// Takes over what a load replaced: options of the groups. Their parameters must be the same: Error(mismatch).
void apply_optimizer_state(Optimizer& optimizer, const StateDict& loaded);

}  // namespace tessera
