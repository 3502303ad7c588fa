#include "tessera/fsdp/optim.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>
#include <torch/optim/lbfgs.h>

#include <cstring>

#include "tessera/fsdp/optim_golden.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// golden_numel elements in parameters whose cuts fall anywhere.
struct GoldenImpl : torch::nn::Module {
  GoldenImpl() {
    int64_t at = 0;
    for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{5, 3}, {1}, {0}, {2, 3, 4}, {3}}) {
      at::Tensor value = at::empty(sizes);
      for (int64_t i = 0; i < value.numel(); ++i, ++at) value.mutable_data_ptr<float>()[i] = static_cast<float>((37 * at) % 101 - 50) / 64;
      parts.push_back(register_parameter("p" + std::to_string(parts.size()), value));
    }
  }
  // Its gradient with respect to element i is the i-th of `gradient`.
  at::Tensor forward(const at::Tensor& gradient) {
    at::Tensor sum = at::zeros({});
    int64_t at = 0;
    for (const at::Tensor& part : parts) {
      sum = sum + (part.reshape({-1}) * gradient.narrow(0, at, part.numel())).sum();
      at += part.numel();
    }
    return sum;
  }
  std::vector<at::Tensor> parts;
};
TORCH_MODULE(Golden);

at::Tensor golden_gradient(int64_t step) {
  const at::Tensor gradient = at::empty({golden_numel});
  for (int64_t i = 0; i < golden_numel; ++i)
    gradient.mutable_data_ptr<float>()[i] = static_cast<float>((53 * i + 29 * step) % 97 - 48) / 128;
  return gradient;
}

std::unique_ptr<Optimizer> golden_optimizer(const std::string& name, ModuleRef model) {
  if (name == "adamw") return std::make_unique<AdamW>(model);
  if (name == "adamw_amsgrad") {
    return std::make_unique<AdamW>(model,
                                   AdamWOptions{.lr = 0.03, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1, .amsgrad = true});
  }
  if (name == "adamw_maximize") return std::make_unique<AdamW>(model, AdamWOptions{.lr = 0.02, .weight_decay = 0, .maximize = true});
  if (name == "sgd") return std::make_unique<SGD>(model, SGDOptions{.lr = 0.1});
  if (name == "sgd_decay") return std::make_unique<SGD>(model, SGDOptions{.lr = 0.1, .weight_decay = 0.05, .maximize = true});
  if (name == "sgd_momentum") {
    return std::make_unique<SGD>(model, SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01});
  }
  return std::make_unique<SGD>(model, SGDOptions{.lr = 0.05, .momentum = 0.9, .nesterov = true});
}

// This rank's part of every parameter, or of a moment, against the same elements of the golden bits.
void expect_golden(const std::string& name, const Optimizer& optimizer) {
  int64_t begin = 0;  // of the parameter among all elements
  for (const ParameterState& one : optimizer.state()) {
    std::vector<NamedState> tensors = one.state;
    const auto& parameter = one.parameter;
    tensors.push_back({"parameter", parameter.unit ? parameter.unit->shard_part(parameter.index) : parameter.tensor.detach()});
    const int64_t first = begin + (parameter.unit ? parameter.unit->layout().part(parameter.unit->shard_rank(), parameter.index).begin : 0);
    for (const NamedState& state : tensors) {
      if (state.name == "step") {
        EXPECT_EQ(state.tensor.item<float>(), golden_steps);
        continue;
      }
      const auto& bits = optim_golden.at(name).at(state.name);
      const at::Tensor values = state.tensor.contiguous();
      ASSERT_EQ(std::memcmp(values.const_data_ptr(), bits.data() + first, values.nbytes()), 0)
          << name << ", " << state.name << " of " << parameter.name;
    }
    begin += parameter.tensor.numel();
  }
  EXPECT_EQ(begin, golden_numel);
}

TEST(Optimizers, EqualStockBitForBitOnAnyNumberOfRanks) {
  for (const auto& [name, bits] : optim_golden) {
    Golden plain;
    const auto alone = golden_optimizer(name, plain);
    for (int step = 0; step < golden_steps; ++step) {
      alone->zero_grad();
      plain(golden_gradient(step)).backward();
      alone->step();
    }
    expect_golden(name, *alone);
    for (const int ranks : {1, 2, 4}) {  // a mean over 3 would round
      for (const int64_t alignment : {1, 16}) {
        run_ranks(ranks, [&, name = name](Job& job) {
          auto model = fsdp(job, [] { return Golden(); }, {.seed = 1, .alignment_bytes = alignment});
          const auto optimizer = golden_optimizer(name, model);
          for (int step = 0; step < golden_steps; ++step) {
            optimizer->zero_grad();
            model(golden_gradient(step)).backward();
            optimizer->step();
          }
          expect_golden(name, *optimizer);
        });
      }
    }
  }
}

std::vector<std::string> option_names(const ParameterGroup& group) {
  std::vector<std::string> names;
  for (const auto& [name, value] : group.options) names.push_back(name);
  return names;
}

TEST(Optimizers, HaveEveryOptionOfStock) {
  Golden model;
  EXPECT_THAT(option_names(AdamW(model).groups().at(0)), ElementsAre("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach",
                                                                     "capturable", "differentiable", "fused", "decoupled_weight_decay"));
  EXPECT_THAT(option_names(SGD(model).groups().at(0)),
              ElementsAre("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "foreach", "differentiable", "fused"));
}

TEST(Groups, TakeParametersByNameAndTheRestIsTheLast) {
  Golden model;
  AdamW optimizer(model, {.lr = 0.5,
                          .groups = {{.params = [](std::string_view name) { return name == "p1" || name == "p3"; }, .weight_decay = 0.0},
                                     {.params = [](std::string_view name) { return name == "p0"; }, .lr = 0.25}}});
  const auto groups = optimizer.groups();
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_THAT(groups[0].params, ElementsAre("p1", "p3"));
  EXPECT_THAT(groups[1].params, ElementsAre("p0"));
  EXPECT_THAT(groups[2].params, ElementsAre("p2", "p4"));
  EXPECT_EQ(groups[0].options[0], (NamedOption{"lr", 0.5}));
  EXPECT_EQ(groups[0].options[3], (NamedOption{"weight_decay", 0.0}));
  EXPECT_EQ(groups[1].options[0], (NamedOption{"lr", 0.25}));
  EXPECT_EQ(groups[2].options[3], (NamedOption{"weight_decay", 0.01}));
  SGD all(model, {.groups = {{.params = [](std::string_view) { return true; }}}});
  EXPECT_EQ(all.groups().size(), 1u) << "no group for no parameters";
}

TEST(Groups, DecideForThePartsOfOneFlatShard) {
  const auto train = [](ModuleRef model, const std::function<void()>& backward) {
    SGD optimizer(model, {.lr = 0.5, .groups = {{.params = [](std::string_view name) { return name == "p3"; }, .lr = 0.0}}});
    backward();
    optimizer.step();
    return values_of(model);
  };
  Golden plain;
  const Values before = values_of(plain);
  const Values expected = train(plain, [&] { plain(golden_gradient(0)).backward(); });
  EXPECT_TRUE(at::equal(expected.at("p3"), before.at("p3")));
  EXPECT_FALSE(at::equal(expected.at("p4"), before.at("p4")));
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Golden(); }, {.seed = 1});
    EXPECT_TRUE(identical(train(model, [&] { model(golden_gradient(0)).backward(); }), expected));
  });
}

TEST(SetOption, ChangesTheNextStepAndKeepsWhatItDoesNotKnow) {
  Golden model;
  const Values before = values_of(model);
  SGD optimizer(model, {.lr = 0.5});
  optimizer.set_lr(0);
  optimizer.set_option(0, "initial_lr", 0.5);
  optimizer.set_option(0, "fused", true);
  model(golden_gradient(0)).backward();
  optimizer.step();
  EXPECT_TRUE(identical(values_of(model), before));
  EXPECT_EQ(optimizer.groups()[0].options.back(), (NamedOption{"initial_lr", 0.5}));
  EXPECT_THROW(optimizer.set_option(0, "lr", "fast"), Error);
  EXPECT_THROW(optimizer.set_option(1, "lr", 0.5), Error);
}

TEST(SetOption, AmsgradBringsItsMoment) {
  Golden model;
  AdamW optimizer(model);
  EXPECT_EQ(optimizer.state()[0].state.size(), 3u);
  optimizer.set_option(0, "amsgrad", true);
  ASSERT_EQ(optimizer.state()[0].state.size(), 4u);
  EXPECT_EQ(optimizer.state()[0].state[3].name, "max_exp_avg_sq");
  model(golden_gradient(0)).backward();
  EXPECT_NO_THROW(optimizer.step());
}

TEST(State, IsThereFromTheStartAndReadingItChangesNothing) {
  const Values untouched = train_on(2, {}, adamw, 3);
  const MakeOptimizer reads = [](ModuleRef model) {
    auto optimizer = std::make_unique<AdamW>(model, AdamWOptions{.lr = 0.01});
    for (const ParameterState& one : optimizer->state()) {
      EXPECT_FALSE(one.begun);
      EXPECT_EQ(one.state.size(), 3u);
      EXPECT_EQ(one.state[1].tensor.numel(), one.parameter.unit->shard_part(one.parameter.index).numel());
    }
    return optimizer;
  };
  EXPECT_TRUE(identical(train_on(2, {}, reads, 3), untouched));
}

// Three steps, or one, a copy of all state into a fresh optimizer, and two more.
Values train_in_two_parts(const Job& job, const MakeOptimizer& make) {
  auto model = sharded_net(job);
  const auto step = [&](Optimizer& optimizer, int number) {
    optimizer.zero_grad();
    loss(model(rows_of(batch(number, batch_rows), job.rank(), job.size()))).backward();
    optimizer.step();
  };
  const auto first = make(model);
  step(*first, 0);
  const auto second = make(model);
  const auto from = first->state();
  const auto to = second->state();
  std::vector<std::string> loaded;
  for (size_t i = 0; i < from.size(); ++i) {
    for (size_t k = 0; k < from[i].state.size(); ++k) to[i].state[k].tensor.copy_(from[i].state[k].tensor);
    if (from[i].begun) loaded.push_back(from[i].parameter.name);
  }
  second->state_loaded(loaded);
  step(*second, 1);
  step(*second, 2);
  return values_of(model);
}

TEST(State, WrittenIntoAFreshOptimizerGoesOnWhereTheOldOneStopped) {
  const MakeOptimizer damped = [](ModuleRef model) {
    return std::make_unique<SGD>(model, SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.5});
  };
  for (const auto& make : {adamw, sgd, damped}) {
    const Values straight = train_on(2, {}, make, 3);
    run_ranks(2, [&](Job& job) { EXPECT_TRUE(identical(train_in_two_parts(job, make), straight)); });
  }
}

TEST(ElementwiseTorchOptimizers, WorkOverTheFlatLeaves) {
  Net plain = plain_net();
  torch::optim::Adam alone(plain->parameters(), torch::optim::AdamOptions(0.01));
  for (int step = 0; step < 3; ++step) {
    alone.zero_grad();
    loss(plain(batch(step, batch_rows))).backward();
    alone.step();
  }
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.01));
    check_elementwise(optimizer);
    for (int step = 0; step < 3; ++step) {
      optimizer.zero_grad();
      loss(model(rows_of(batch(step, batch_rows), job.rank(), job.size()))).backward();
      optimizer.step();
    }
    EXPECT_LE(difference(values_of(model), values_of(plain)), 2e-5);
  });
}

TEST(ElementwiseTorchOptimizers, AreNotLbfgs) {
  Golden model;
  torch::optim::LBFGS optimizer(model->parameters());
  try {
    check_elementwise(optimizer);
    FAIL() << "it passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("LBFGS"));
  }
}

TEST(Optimizers, RefuseAModelThatShowsNoParameters) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Golden(); }, {.seed = 1});
    EXPECT_THROW(AdamW(model.module()), Error) << "the module inside knows no unit: training it would do nothing";
  });
}

TEST(NesterovSgd, NeedsMomentumWithoutDampening) {
  Golden model;
  EXPECT_THROW(SGD(model, {.nesterov = true}), Error);
  EXPECT_THROW(SGD(model, {.momentum = 0.9, .dampening = 0.1, .nesterov = true}), Error);
}

}  // namespace
}  // namespace tessera::testing
