#include "tessera/fsdp/optim.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>
#include <torch/optim/lbfgs.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/fsdp/optim_golden.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// golden_numel elements in parameters whose cuts fall anywhere.
struct GoldenImpl : torch::nn::Module {
  explicit GoldenImpl(at::ScalarType type = at::kFloat) {
    int64_t at = 0;
    for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{5, 3}, {1}, {0}, {2, 3, 4}, {3}}) {
      at::Tensor value = at::empty(sizes);
      for (int64_t i = 0; i < value.numel(); ++i, ++at) value.mutable_data_ptr<float>()[i] = static_cast<float>((37 * at) % 101 - 50) / 64;
      parts.push_back(register_parameter("p" + std::to_string(parts.size()), value.to(type)));
    }
  }
  // Its gradient with respect to element i is the i-th of `gradient`.
  at::Tensor forward(const at::Tensor& gradient) {
    at::Tensor sum = at::zeros({});
    int64_t at = 0;
    for (const at::Tensor& part : parts) {
      sum = sum + (part.reshape({-1}) * gradient.narrow(0, at, part.numel()).to(part.scalar_type())).sum();
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

bool apart(std::string_view name) { return name == "p1" || name == "p3"; }

// What tests/golden/make_optim_golden.py lists.
using Make = std::function<std::unique_ptr<Optimizer>(ModuleRef, bool fused)>;
template <class Kind, class Options>
std::pair<const std::string, Make> golden_case(const char* name, Options options) {
  return {name, [options](ModuleRef model, bool fused) mutable {
            options.fused = fused;
            return std::make_unique<Kind>(model, options);
          }};
}
const AdamOptions adam{.lr = 0.02, .betas = {0.85, 0.97}, .weight_decay = 0.05};
const AdagradOptions adagrad{.lr = 0.05, .lr_decay = 0.02, .weight_decay = 0.03, .initial_accumulator_value = 0.25, .eps = 1e-6};
const std::map<std::string, Make> golden_optimizers = {
    golden_case<AdamW>("adamw", AdamWOptions{}),
    golden_case<AdamW>("adamw_amsgrad", AdamWOptions{.lr = 0.03, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1, .amsgrad = true}),
    golden_case<AdamW>("adamw_maximize", AdamWOptions{.lr = 0.02, .weight_decay = 0, .maximize = true}),
    golden_case<AdamW>("adamw_groups", AdamWOptions{.lr = 0.02, .groups = {{.params = apart, .betas = {{0.4, 0.9}}, .weight_decay = 0.0}}}),
    golden_case<AdamW>("adamw_double", AdamWOptions{.lr = 0.03, .amsgrad = true, .groups = {{.params = apart, .weight_decay = 0.0}}}),
    golden_case<Adam>("adam", adam),
    golden_case<Adam>("adam_groups", AdamOptions{.lr = 0.02,
                                                 .betas = {0.85, 0.97},
                                                 .weight_decay = 0.05,
                                                 .amsgrad = true,
                                                 .groups = {{.params = apart, .lr = 0.01, .weight_decay = 0.0}}}),
    golden_case<Adam>("adam_double", AdamOptions{.lr = 0.02, .betas = {0.85, 0.97}, .weight_decay = 0.05, .maximize = true}),
    golden_case<SGD>("sgd", SGDOptions{.lr = 0.1}),
    golden_case<SGD>("sgd_decay", SGDOptions{.lr = 0.1, .weight_decay = 0.05, .maximize = true}),
    golden_case<SGD>("sgd_momentum", SGDOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01}),
    golden_case<SGD>("sgd_nesterov", SGDOptions{.lr = 0.05, .momentum = 0.9, .nesterov = true}),
    golden_case<SGD>("sgd_groups",
                     SGDOptions{.lr = 0.05, .momentum = 0.9, .groups = {{.params = apart, .lr = 0.1, .momentum = 0.8, .dampening = 0.2}}}),
    golden_case<SGD>("sgd_double", SGDOptions{.lr = 0.05, .momentum = 0.9, .nesterov = true}),
    golden_case<Adagrad>("adagrad", AdagradOptions{}),
    golden_case<Adagrad>("adagrad_decay", adagrad),
    golden_case<Adagrad>("adagrad_groups", AdagradOptions{.lr = 0.05,
                                                          .lr_decay = 0.02,
                                                          .weight_decay = 0.03,
                                                          .initial_accumulator_value = 0.25,
                                                          .eps = 1e-6,
                                                          .maximize = true,
                                                          .groups = {{.params = apart, .lr = 0.1, .weight_decay = 0.0}}}),
    golden_case<Adagrad>("adagrad_double", adagrad),
};

at::ScalarType type_of(const std::string& name) { return name.ends_with("_double") ? at::kDouble : at::kFloat; }

// Calls compare(actual, bits, what) for this rank's part of every parameter and moment, and the same elements of the golden bits.
template <class Compare>
void with_golden(const std::string& name, const Optimizer& optimizer, Compare compare) {
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
      const std::string what = name + ", " + state.name + " of " + parameter.name;
      compare(state.tensor.contiguous().view({-1}), optim_golden.at(name).at(state.name).data() + first, what);
    }
    begin += parameter.tensor.numel();
  }
  EXPECT_EQ(begin, golden_numel);
}

void expect_golden(const std::string& name, const Optimizer& optimizer) {
  with_golden(name, optimizer, [](const at::Tensor& actual, const uint64_t* bits, const std::string& what) {
    for (int64_t i = 0; i < actual.numel(); ++i) {
      uint64_t mine = 0;  // little-endian: the bits of a float are the lower half
      std::memcpy(&mine, static_cast<const char*>(actual.const_data_ptr()) + i * actual.itemsize(), actual.itemsize());
      ASSERT_EQ(mine, bits[i]) << what << " at " << i;
    }
  });
}

void expect_nearly_golden(const std::string& name, const Optimizer& optimizer) {
  with_golden(name, optimizer, [&](const at::Tensor& actual, const uint64_t* bits, const std::string& what) {
    for (int64_t i = 0; i < actual.numel(); ++i) {
      const double wanted =
          type_of(name) == at::kDouble ? std::bit_cast<double>(bits[i]) : std::bit_cast<float>(static_cast<uint32_t>(bits[i]));
      ASSERT_NEAR(actual[i].item<double>(), wanted, 1e-6 * std::fabs(wanted) + 1e-7) << what << " at " << i;
    }
  });
}

template <class Model>
void train_golden(Model& model, Optimizer& optimizer) {
  for (int step = 0; step < golden_steps; ++step) {
    optimizer.zero_grad();
    model(golden_gradient(step)).backward();
    optimizer.step();
  }
}

TEST(Optimizers, EqualStockBitForBitOnAnyNumberOfRanks) {
  ASSERT_EQ(optim_golden.size(), golden_optimizers.size());
  for (const auto& [name, make] : golden_optimizers) {
    Golden plain(type_of(name));
    const auto alone = make(plain, false);
    train_golden(plain, *alone);
    expect_golden(name, *alone);
    for (const int ranks : {1, 2, 4}) {  // a mean over 3 would round
      for (const int64_t alignment : {1, 16}) {
        run_ranks(ranks, [&, name = name, make = make](Job& job) {
          auto model = fsdp(job, [&] { return Golden(type_of(name)); }, {.seed = 1, .alignment_bytes = alignment});
          const auto optimizer = make(model, false);
          train_golden(model, *optimizer);
          expect_golden(name, *optimizer);
        });
      }
    }
  }
}

TEST(Optimizers, EqualThemselvesOnThreeRanksFromTheGradientsThereAre) {
  for (const auto& [name, make] : golden_optimizers) {
    Golden plain(type_of(name));
    const auto alone = make(plain, false);
    run_ranks(3, [&, name = name, make = make](Job& job) {
      auto model = fsdp(job, [&] { return Golden(type_of(name)); }, {.seed = 1, .alignment_bytes = 1});
      const auto optimizer = make(model, false);
      const FlatUnit& unit = *flat_units(model).front().unit;
      for (int step = 0; step < golden_steps; ++step) {
        const Range mine = unit.layout().range(job.rank());
        const at::Tensor gradient = at::zeros_like(unit.shard().detach());
        gradient.narrow(0, 0, mine.size()).copy_(golden_gradient(step).narrow(0, mine.begin, mine.size()));
        unit.shard().mutable_grad() = gradient;
        optimizer->step();
      }
      expect_golden(name, *optimizer);
    });
  }
}

TEST(FusedOptimizers, EqualTheOthersWithinRounding) {
  for (const auto& [name, make] : golden_optimizers) {
    for (const int ranks : {1, 2}) {
      run_ranks(ranks, [&, name = name, make = make](Job& job) {
        auto model = fsdp(job, [&] { return Golden(type_of(name)); }, {.seed = 1});
        const auto optimizer = make(model, true);
        EXPECT_EQ(*find_option(optimizer->groups().at(0).options, "fused"), Value(true));
        train_golden(model, *optimizer);
        expect_nearly_golden(name, *optimizer);
      });
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
  EXPECT_EQ(option_names(Adam(model).groups().at(0)), option_names(AdamW(model).groups().at(0)));
  EXPECT_EQ(*find_option(Adam(model).groups().at(0).options, "decoupled_weight_decay"), Value(false));
  EXPECT_THAT(option_names(Adagrad(model).groups().at(0)), ElementsAre("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value",
                                                                       "foreach", "maximize", "differentiable", "fused"));
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
  EXPECT_THROW(optimizer.set_option(0, "nesterov", 1.0), Error);
  EXPECT_THROW(optimizer.set_option(0, "fused", "yes"), Error);
  EXPECT_NO_THROW(optimizer.set_option(0, "fused", Value()));
  EXPECT_THROW(optimizer.set_option(1, "lr", 0.5), Error);
}

TEST(Options, ThatStockRefusesAreRefused) {
  Golden model;
  EXPECT_THROW(AdamW(model, {.lr = -1}), Error);
  EXPECT_THROW(AdamW(model, {.betas = {0.9, 1.0}}), Error);
  EXPECT_THROW(Adam(model, {.groups = {{.params = apart, .eps = -1e-8}}}), Error);
  EXPECT_THROW(SGD(model, {.weight_decay = -1}), Error);
  EXPECT_THROW(Adagrad(model, {.initial_accumulator_value = -1}), Error);
  EXPECT_THROW(Adagrad(model, {.lr_decay = std::numeric_limits<double>::quiet_NaN()}), Error);
}

TEST(Optimizers, ChangeWhatAutogradSaved) {
  Golden model;
  SGD optimizer(model, {.lr = 0.5});
  const at::Tensor squares = model->parts[0] * model->parts[0];
  model->parts[0].mutable_grad() = at::zeros_like(model->parts[0].detach());
  optimizer.step();
  EXPECT_THROW(squares.sum().backward(), c10::Error) << "a backward with other values than the forward's";
}

TEST(Adagrad, HasItsSumFromTheStart) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Golden(); }, {.seed = 1});
    const Adagrad optimizer(model, {.initial_accumulator_value = 0.5});
    for (const ParameterState& one : optimizer.state()) {
      ASSERT_EQ(one.state.size(), 2u);
      EXPECT_EQ(one.state[1].name, "sum");
      const at::Tensor wanted = at::full_like(one.state[1].tensor, 0.5);
      EXPECT_TRUE(at::equal(one.state[1].tensor, wanted)) << one.parameter.name;
    }
  });
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
  const MakeOptimizer coupled = [](ModuleRef model) {
    return std::make_unique<Adam>(model, AdamOptions{.lr = 0.01, .weight_decay = 0.1, .amsgrad = true});
  };
  const MakeOptimizer summed = [](ModuleRef model) { return std::make_unique<Adagrad>(model, AdagradOptions{.lr_decay = 0.1}); };
  for (const auto& make : {adamw, sgd, damped, coupled, summed}) {
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
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards});
      torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(0.01));
      check_elementwise(optimizer);
      for (int step = 0; step < 3; ++step) {
        optimizer.zero_grad();
        loss(model(rows_of(batch(step, batch_rows), job.rank(), job.size()))).backward();
        optimizer.step();
      }
      EXPECT_LE(difference(values_of(model), values_of(plain)), 2e-5) << text_of(spread);
    });
  }
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
