// tessera/fsdp/optim.h: every optimizer, over the shards of a model and over parameters outside any unit.
//   auto optim = tessera::AdamW(model, {.lr = 3e-4, .groups = {{.params = is_bias_or_norm, .weight_decay = 0.0}}});
// AdamW, Adam (adam.h), SGD (sgd.h), Adagrad (adagrad.h); what they have in common is in optimizer.h. Any element-wise torch::optim
// optimizer works over model->parameters() as well.
#pragma once

#include "tessera/fsdp/adagrad.h"
#include "tessera/fsdp/adam.h"
#include "tessera/fsdp/optimizer.h"
#include "tessera/fsdp/sgd.h"

namespace torch::optim {
class Optimizer;
}

namespace tessera {

// Throws Error(unsupported), by name, for an optimizer that is not element-wise (LBFGS): it would see a shard for the whole.
void check_elementwise(const torch::optim::Optimizer& optimizer);

}  // namespace tessera
