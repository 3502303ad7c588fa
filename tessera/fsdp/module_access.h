// tessera/fsdp/module_access.h: the parameters that a module has registered, to change. LibTorch keeps them protected.
#pragma once

#include <torch/nn/module.h>

#include <string>

namespace tessera {

inline torch::OrderedDict<std::string, at::Tensor>& parameters_of(torch::nn::Module& module) {
  struct Access : torch::nn::Module {
    static auto member() { return &Access::parameters_; }
  };
  return module.*Access::member();
}

}  // namespace tessera
