// tessera/libtorch/torch_optimizer_state.h: the state of one of torch::optim's element-wise optimizers, by parameter name.
// Supported   AdamW, Adam, SGD over model->parameters(), in which a unit is one flat leaf; groups may split leaves between them.
//             Others: Error(unsupported) that names what is supported.
// Keys        As optimizer_state.h. `step`, which LibTorch counts once a leaf, stands under each of its names as stock has it. An optimizer
//             that has not stepped is described by zeros, so that it can be loaded into. Reading changes nothing: only a load begins them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "tessera/fsdp/module_ref.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"
#include "tessera/libtorch/whole_tensors.h"

namespace torch::optim {
class Optimizer;
}

namespace tessera {

// Leaf → memory for a state that has not begun: described, perhaps filled by a load, and only then the optimizer's.
using NotBegun = std::map<const c10::TensorImpl*, at::Tensor>;

// What it keeps in parts, for kind full; with not_begun as the description will have it.
std::vector<ShardPart> shard_parts(torch::optim::Optimizer& optimizer, ModuleRef model, NotBegun& not_begun);
// `whole`: of shard_parts(), for kind full; none for the others, which are alike.
StateDict torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, TensorViews& views, NotBegun& not_begun,
                                const WholeTensors* whole);
void apply_torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, const StateDict& loaded, NotBegun& not_begun);

}  // namespace tessera
