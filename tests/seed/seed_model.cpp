#include "tests/seed/seed_model.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <torch/nn/modules/linear.h>

#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/wrap.h"

namespace tessera {
namespace {

using torch::nn::Linear;
using torch::nn::LinearOptions;

Linear square() { return Linear(LinearOptions(10, 10).bias(false)); }

// The model of PyTorch's FSDP checkpoint test, under its names.
struct SkipModuleImpl : torch::nn::Module {
  SkipModuleImpl() : lin(register_module("lin", square())) {}
  at::Tensor forward(const at::Tensor& x) { return lin(x); }
  Linear lin;
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
      : linear(register_module("linear", square())), linear_skip(register_module("linear_skip", SkipModule())),
        nested_linear(register_module("nested_linear", wrap(NestedLinear()))) {}
  at::Tensor forward(const at::Tensor& x) { return linear_skip(nested_linear(linear(x))); }
  Linear linear;
  SkipModule linear_skip;
  Wrapped<NestedLinearImpl> nested_linear;
};
TORCH_MODULE(SkipModel);

struct DotImpl : torch::nn::Module {
  DotImpl() : dot(register_parameter("dot", at::rand({1}))) {}
  at::Tensor forward(const at::Tensor& x) { return x * dot; }
  at::Tensor dot;
};
TORCH_MODULE(Dot);

struct TailImpl : torch::nn::Module {
  TailImpl() : tall(register_parameter("tall", at::rand({10, 1, 7}))), scalar(register_parameter("scalar", at::rand({}))) {}
  at::Tensor forward(const at::Tensor& x) { return x * tall.sum() + scalar; }
  at::Tensor tall;
  at::Tensor scalar;
};
TORCH_MODULE(Tail);

struct UnevenModelImpl : torch::nn::Module {
  UnevenModelImpl()
      : odd(register_parameter("odd", at::rand({7, 10}))), row(register_parameter("row", at::rand({1, 3}))), none(register_parameter("none", at::rand({0, 4}))),
        tail(register_module("tail", wrap(Tail()))), one(register_module("one", wrap(Dot()))) {
    register_buffer("steps", at::full({}, at::rand({}).item<float>() * 1000, at::kLong));
    register_buffer("table", at::rand({3}, at::kDouble));
  }
  at::Tensor forward(const at::Tensor& x) { return one(tail(x * odd.sum() * row.sum())); }
  at::Tensor odd, row, none;
  Wrapped<TailImpl> tail;
  Wrapped<DotImpl> one;
};
TORCH_MODULE(UnevenModel);

std::vector<std::byte> bytes_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.detach().contiguous();
  const auto* first = static_cast<const std::byte*>(dense.data_ptr());
  return {first, first + dense.nbytes()};
}

template <class M>
class Sharded final : public SeedModel {
 public:
  Sharded(const Job& job, uint64_t seed, int64_t alignment_bytes)
      : model_(fsdp(job, [] { return M(); }, {.seed = seed, .alignment_bytes = alignment_bytes})) {}
  State state(Kind kind) override { return tessera::state(model_, {.kind = kind}); }
  std::map<std::string, std::vector<std::byte>> whole() override {
    const SummonFullParams summoned(model_, {.writeback = false});
    std::map<std::string, std::vector<std::byte>> all;
    for (const NamedParameter& parameter : named_parameters(model_)) all[parameter.name] = bytes_of(parameter.tensor);
    for (const NamedBuffer& buffer : named_buffers(model_)) all[buffer.name] = bytes_of(buffer.tensor);
    return all;
  }

 private:
  Wrapped<typename M::Impl> model_;
};

}  // namespace

std::unique_ptr<SeedModel> SeedModel::make(const std::string& name, const Job& job, uint64_t seed, int64_t alignment_bytes) {
  if (name == "skip") return std::make_unique<Sharded<SkipModel>>(job, seed, alignment_bytes);
  if (name == "uneven") return std::make_unique<Sharded<UnevenModel>>(job, seed, alignment_bytes);
  throw Error({.code = Code::invalid_argument, .what = "no seed model is named '" + name + "'"});
}

}  // namespace tessera
