// tessera/libtorch/torch_optimizer_state.h: the state of one of torch::optim's element-wise optimizers, by parameter name.
// Supported   AdamW, Adam, SGD over model->parameters(), in which a unit is one flat leaf; groups may split leaves between them.
//             Others: Error(unsupported) that names what is supported.
// Keys        As optimizer_state.h. `step`, which LibTorch counts once a leaf, stands under each of its names as stock has it. An optimizer
//             that has not stepped gets entries of zeros, so that it can be loaded into.
#pragma once

#include "tessera/fsdp/module_ref.h"
#include "tessera/layout/state_dict.h"
#include "tessera/libtorch/tensor_view.h"

namespace torch::optim {
class Optimizer;
}

namespace tessera {

StateDict torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, TensorViews& views);
void apply_torch_optimizer_state(torch::optim::Optimizer& optimizer, ModuleRef model, const StateDict& loaded);

}  // namespace tessera
