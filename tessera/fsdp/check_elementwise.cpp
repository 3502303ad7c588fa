#include <torch/optim/lbfgs.h>

#include "tessera/base/error.h"
#include "tessera/fsdp/optim.h"

namespace tessera {

void check_elementwise(const torch::optim::Optimizer& optimizer) {
  if (dynamic_cast<const torch::optim::LBFGS*>(&optimizer) == nullptr) return;
  throw Error({.code = Code::unsupported,
               .what = "LBFGS is not element-wise: it would take a shard for the whole model",
               .hint = "use AdamW, SGD, or an element-wise torch::optim optimizer"});
}

}  // namespace tessera
