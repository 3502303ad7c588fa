// tessera/libtorch/optimizer_state.h: an optimizer's state as a state dict, by parameter name in every kind.
// Keys        `state.<name>.<what>` and `param_groups.<i>.<option>`, as stock's get_optimizer_state_dict has them.
// Note        An optimizer that has not stepped yet is described all the same, by zeros, so that it can be loaded into.
#pragma once

#include "tessera/fsdp/optim.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"

namespace tessera {

StateDict optimizer_state(const Optimizer& optimizer, TensorViews& views);
// Takes over what a load replaced: options of the groups. Their parameters must be the same: Error(mismatch).
void apply_optimizer_state(Optimizer& optimizer, const StateDict& loaded);

}  // namespace tessera
