// tests/seed/skip_model.h: the model of PyTorch's own FSDP checkpoint test, SkipModel(double_nest), under its names: linear.weight,
// linear_skip.lin.weight, nested_linear.nested_linear.weight, each 10 × 10.
#pragma once

#include <torch/nn/modules/linear.h>

#include "tessera/fsdp/wrap.h"

namespace tessera {

inline torch::nn::Linear square() { return torch::nn::Linear(torch::nn::LinearOptions(10, 10).bias(false)); }

struct SkipModuleImpl : torch::nn::Module {
  SkipModuleImpl() : lin(register_module("lin", square())) {}
  at::Tensor forward(const at::Tensor& x) { return lin(x); }
  torch::nn::Linear lin;
};
TORCH_MODULE(SkipModule);

struct NestedLinearImpl : torch::nn::Module {
  NestedLinearImpl() : nested_linear(register_module("nested_linear", wrap(square()))) {}
  at::Tensor forward(const at::Tensor& x) { return nested_linear(x); }
  Wrapped<torch::nn::LinearImpl> nested_linear;
};
TORCH_MODULE(NestedLinear);

struct SkipModelImpl : torch::nn::Module {
  SkipModelImpl()
      : linear(register_module("linear", square())),
        linear_skip(register_module("linear_skip", SkipModule())),
        nested_linear(register_module("nested_linear", wrap(NestedLinear()))) {}
  at::Tensor forward(const at::Tensor& x) { return linear_skip(nested_linear(linear(x))); }
  torch::nn::Linear linear;
  SkipModule linear_skip;
  Wrapped<NestedLinearImpl> nested_linear;
};
TORCH_MODULE(SkipModel);

}  // namespace tessera
