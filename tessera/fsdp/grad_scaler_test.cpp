#include "tessera/fsdp/grad_scaler.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <array>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/fsdp/test_model.h"

namespace tessera::testing {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// A rank's part of the gradients, all `value`; nothing else of training matters here.
void set_gradients(ModuleRef model, double value) {
  for (const NamedFlatUnit& named : flat_units(model))
    named.unit->shard().mutable_grad() = at::full_like(named.unit->shard().detach(), value);
}

TEST(GradScaler, AnInfinityOnOneRankMakesAllSkipAndScaleAlike) {
  for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    run_ranks(3, [&](Job& job) {
      auto model = sharded_net(job);
      const auto optimizer = sgd(model);
      GradScaler scaler(job, {.init_scale = 1024});
      const Values before = values_of(model);
      set_gradients(model, job.rank() == 1 ? bad : 1);
      EXPECT_FALSE(scaler.step(*optimizer));
      scaler.update();
      EXPECT_EQ(scaler.get_scale(), 512);
      EXPECT_TRUE(identical(values_of(model), before));
      set_gradients(model, 1);
      EXPECT_TRUE(scaler.step(*optimizer));
      scaler.update();
      EXPECT_EQ(scaler.get_scale(), 512);
      EXPECT_FALSE(identical(values_of(model), before));
    });
  }
}

TEST(GradScaler, TakesOptimizersOfLibTorchToo) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.5));
    GradScaler scaler(job, {.init_scale = 8});
    const Values before = values_of(model);
    set_gradients(model, job.rank() == 1 ? infinity : 1);
    EXPECT_FALSE(scaler.step(optimizer));
    scaler.update();
    EXPECT_TRUE(identical(values_of(model), before));
    set_gradients(model, 4);
    scaler.unscale_(optimizer);
    for (const NamedFlatUnit& named : flat_units(model)) {
      const at::Tensor gradient = named.unit->shard().grad();
      EXPECT_TRUE(at::equal(gradient, at::ones_like(gradient))) << "4 over a scale that has shrunk to 4";
    }
    EXPECT_TRUE(scaler.step(optimizer));
    EXPECT_FALSE(identical(values_of(model), before));
  });
}

TEST(GradScaler, ScalesByAPowerOfTwoWithoutATrace) {
  const Values plain = train_on(2, {}, adamw, 3);
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = adamw(model);
    GradScaler scaler(job);
    for (int step = 0; step < 3; ++step) {
      scaler.scale(loss(model(rows_of(batch(step, batch_rows), job.rank(), job.size())))).backward();
      EXPECT_TRUE(scaler.step(*optimizer));
      scaler.update();
      optimizer->zero_grad();
    }
    EXPECT_LE(difference(values_of(model), plain), 1e-6);
  });
}

TEST(GradScaler, UnscalesOnceAndLetsGradientsBeLookedAt) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = sgd(model);
    GradScaler scaler(job, {.init_scale = 8});
    set_gradients(model, 4);
    scaler.unscale_(*optimizer);
    for (const at::Tensor& gradient : optimizer->gradients()) {
      EXPECT_TRUE(at::equal(gradient, at::full_like(gradient, 0.5)));
    }
    EXPECT_THROW(scaler.unscale_(*optimizer), Error);
    EXPECT_TRUE(scaler.step(*optimizer));
    EXPECT_THROW(scaler.step(*optimizer), Error);
    EXPECT_THROW(scaler.unscale_(*optimizer), Error);
    scaler.update();
    EXPECT_THROW(scaler.update(), Error) << "nothing was unscaled since";
  });
}

// torch.amp.GradScaler("cpu", init_scale=16, growth_interval=2) over steps that are finite or not.
TEST(GradScaler, GrowsAndShrinksAsStockDoes) {
  run_ranks(1, [](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = sgd(model);
    GradScaler scaler(job, {.init_scale = 16, .growth_interval = 2});
    const std::array<bool, 9> finite = {true, true, true, false, true, true, true, true, false};
    const std::array<double, 9> scales = {16, 32, 32, 16, 16, 32, 32, 64, 32};
    for (size_t i = 0; i < finite.size(); ++i) {
      set_gradients(model, finite[i] ? 1 : infinity);
      EXPECT_EQ(scaler.step(*optimizer), finite[i]);
      scaler.update();
      EXPECT_EQ(scaler.get_scale(), scales[i]) << i;
    }
    scaler.update(5);
    EXPECT_EQ(scaler.get_scale(), 5);
  });
}

TEST(GradScaler, DoesNotGrowToInfinity) {
  run_ranks(1, [](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = sgd(model);
    GradScaler scaler(job, {.init_scale = 2e38, .growth_interval = 1});
    set_gradients(model, 1);
    scaler.step(*optimizer);
    scaler.update();
    EXPECT_EQ(static_cast<float>(scaler.get_scale()), 2e38f);
  });
}

TEST(GradScaler, GoesOnWhereItsStateWasTaken) {
  run_ranks(1, [](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = sgd(model);
    GradScaler scaler(job, {.init_scale = 16, .growth_interval = 2});
    set_gradients(model, 1);
    scaler.step(*optimizer);
    scaler.update();
    const StateDict state = scaler.state_dict();
    EXPECT_EQ(*state.object("scale"), Value(16.0));
    EXPECT_EQ(*state.object("growth_factor"), Value(2.0));
    EXPECT_EQ(*state.object("backoff_factor"), Value(0.5));
    EXPECT_EQ(*state.object("growth_interval"), Value(2));
    EXPECT_EQ(*state.object("_growth_tracker"), Value(1));
    GradScaler resumed(job);
    resumed.load_state_dict(state);
    set_gradients(model, 1);
    resumed.step(*optimizer);
    resumed.update();
    EXPECT_EQ(resumed.get_scale(), 32);
  });
}

TEST(GradScaler, TakesGradientsOfFloat16) {
  struct Half : torch::nn::Module {
    Half() : weight(register_parameter("weight", at::ones({3}, at::kHalf))) {}
    at::Tensor weight;
  };
  run_ranks(1, [](Job& job) {
    Half model;
    SGD optimizer(model, {.lr = 1});
    GradScaler scaler(job, {.init_scale = 1024});
    model.weight.mutable_grad() = at::full({3}, 512, at::kHalf);
    EXPECT_TRUE(scaler.step(optimizer));
    EXPECT_EQ(model.weight[0].item<float>(), 0.5f);
  });
}

TEST(GradScaler, ThatIsNotEnabledDoesNothing) {
  run_ranks(1, [](Job& job) {
    auto model = sharded_net(job);
    const auto optimizer = sgd(model);
    GradScaler scaler(job, {.enabled = false});
    EXPECT_EQ(scaler.scale(at::full({}, 3.0)).item<float>(), 3);
    set_gradients(model, 1);
    EXPECT_TRUE(scaler.step(*optimizer));
    EXPECT_NO_THROW(scaler.update());
    EXPECT_EQ(scaler.get_scale(), 1);
    EXPECT_TRUE(scaler.state_dict().leaves.empty());
  });
}

TEST(GradScaler, RefusesFactorsThatStockRefuses) {
  run_ranks(1, [](Job& job) {
    EXPECT_THROW(GradScaler(job, {.growth_factor = 1}), Error);
    EXPECT_THROW(GradScaler(job, {.backoff_factor = 1}), Error);
  });
}

}  // namespace
}  // namespace tessera::testing
