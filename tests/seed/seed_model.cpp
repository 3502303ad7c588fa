#include "tests/seed/seed_model.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include "examples/gpt/gpt.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/wrap.h"
#include "tests/seed/skip_model.h"

namespace tessera {
namespace {

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
      : odd(register_parameter("odd", at::rand({7, 10}))),
        row(register_parameter("row", at::rand({1, 3}))),
        none(register_parameter("none", at::rand({0, 4}))),
        tail(register_module("tail", wrap(Tail()))),
        one(register_module("one", wrap(Dot()))) {
    register_buffer("steps", at::full({}, at::rand({}).item<float>() * 1000, at::kLong));
    register_buffer("table", at::rand({3}, at::kDouble));
  }
  at::Tensor forward(const at::Tensor& x) { return one(tail(x * odd.sum() * row.sum())); }
  at::Tensor odd, row, none;
  Wrapped<TailImpl> tail;
  Wrapped<DotImpl> one;
};
TORCH_MODULE(UnevenModel);

// One flat parameter of so many elements in all.
struct FlatImpl : torch::nn::Module {
  explicit FlatImpl(std::vector<at::DimVector> sizes) {
    for (const auto& each : sizes) weights.push_back(register_parameter("weight" + std::to_string(weights.size()), at::rand(each)));
  }
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor sum = x;
    for (const at::Tensor& weight : weights) sum = sum * weight.sum();
    return sum;
  }
  std::vector<at::Tensor> weights;
};
TORCH_MODULE(Flat);

// Some loss that every parameter has a part in, from an input that is the same each time.
template <class M>
at::Tensor loss_of(M& model, at::Device device) {
  return model((at::arange(1, 11, at::kFloat).view({1, 10}) / 10).to(device)).square().mean();
}
at::Tensor loss_of(Wrapped<GptImpl>& model, at::Device device) {
  const at::Tensor tokens = at::arange(0, 2 * 17, at::kLong).view({2, 17}).to(device);
  return cross_entropy_sum(model(tokens.narrow(1, 0, 16)), tokens.narrow(1, 1, 16)) / 32;
}

std::vector<std::byte> bytes_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.detach().cpu().contiguous();
  const auto* first = static_cast<const std::byte*>(dense.data_ptr());
  return {first, first + dense.nbytes()};
}

// The whole of one tensor of optimizer state. The bits of all ranks' parts are added to zeros, as integers, so that none changes.
std::vector<std::byte> whole_state(const Job& job, const NamedParameter& parameter, const at::Tensor& part) {
  if (part.dim() == 0 || !parameter.unit) return bytes_of(part);
  const FlatUnit& unit = *parameter.unit;
  const Range mine = unit.layout().part(unit.shard_rank(), parameter.index);
  const at::Tensor bits = at::zeros({unit.layout().parameters.at(parameter.index).numel}, at::kInt);
  bits.narrow(0, mine.begin, mine.size()).copy_(part.cpu().view(at::kInt));
  job.collectives().all_reduce(bits, Reduce::sum)->wait();
  return bytes_of(bits);
}

// As stock.py builds them: with two groups, where the model has parameters that do not decay.
std::unique_ptr<Optimizer> optimizer(const std::string& rule, ModuleRef model, bool grouped) {
  const auto made = [&]<class Kind, class Options>(Options options) -> std::unique_ptr<Optimizer> {
    if (grouped) options.groups = {{.params = [](std::string_view name) { return !decays(name); }, .weight_decay = 0.0}};
    return std::make_unique<Kind>(model, options);
  };
  if (rule == "adam") return made.template operator()<Adam>(AdamOptions{.lr = 1e-2, .weight_decay = 0.1, .amsgrad = true});
  if (rule == "sgd") return made.template operator()<SGD>(SGDOptions{.lr = 1e-2, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
  if (rule == "adagrad") return made.template operator()<Adagrad>(AdagradOptions{.lr = 1e-2, .initial_accumulator_value = 0.5});
  return made.template operator()<AdamW>(AdamWOptions{.lr = 1e-2});
}

template <class M>
class Sharded final : public SeedModel {
 public:
  template <class... Config>
  Sharded(const Job& job, const SeedOptions& options, const Config&... config)
      : job_(job),
        device_(options.device.value_or(at::kCPU)),
        model_(fsdp(job, [&] { return M(config...); },
                    {.seed = options.seed, .alignment_bytes = options.alignment_bytes, .device = options.device})) {
    if (options.optim) optim_ = optimizer(options.rule, model_, std::is_same_v<M, Gpt>);
  }

  State state(Kind kind) override {
    if (!optim_) return tessera::state(model_, {.kind = kind});
    return tessera::state({{"model", model_}, {"optim", *optim_}}, {.kind = kind});
  }

  std::map<std::string, std::vector<std::byte>> whole() override {
    const std::string prefix = optim_ ? "model." : "";
    std::map<std::string, std::vector<std::byte>> all;
    {
      const SummonFullParams summoned(model_, {.writeback = false});
      for (const NamedParameter& parameter : named_parameters(model_)) all[prefix + parameter.name] = bytes_of(parameter.tensor);
    }
    for (const NamedBuffer& buffer : named_buffers(model_)) all[prefix + buffer.name] = bytes_of(buffer.tensor);
    if (!optim_) return all;
    for (const ParameterState& held : optim_->state()) {
      for (const NamedState& state : held.state)
        all["optim.state." + held.parameter.name + "." + state.name] = whole_state(job_, held.parameter, state.tensor);
    }
    return all;
  }

  void train(int steps) override {
    for (int i = 0; i < steps; ++i) {
      loss_of(model_, device_).backward();
      optim_->step();
      optim_->zero_grad();
    }
  }

 private:
  const Job job_;
  const at::Device device_;
  Wrapped<typename M::Impl> model_;
  std::unique_ptr<Optimizer> optim_;
};

}  // namespace

std::unique_ptr<SeedModel> SeedModel::make(const std::string& name, const Job& job, const SeedOptions& options) {
  if (name == "skip") return std::make_unique<Sharded<SkipModel>>(job, options);
  if (name == "uneven") return std::make_unique<Sharded<UnevenModel>>(job, options);
  using Shapes = std::vector<at::DimVector>;
  if (name == "flat59") return std::make_unique<Sharded<Flat>>(job, options, Shapes{{5, 7}, {3, 5}, {9}});
  if (name == "flat2") return std::make_unique<Sharded<Flat>>(job, options, Shapes{{2}});
  if (name == "gpt") return std::make_unique<Sharded<Gpt>>(job, options, GptConfig{.layers = 2, .width = 64, .seq = 16, .vocab = 50});
  throw Error({.code = Code::invalid_argument, .what = "no seed model is named '" + name + "'"});
}

}  // namespace tessera
