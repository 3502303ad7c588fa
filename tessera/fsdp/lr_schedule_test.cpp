#include "tessera/fsdp/lr_schedule.h"

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "tessera/base/error.h"
#include "tessera/fsdp/lr_golden.h"
#include "tessera/fsdp/sgd.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

struct Two : torch::nn::Module {
  Two() {
    register_parameter("a", at::zeros({1}));
    register_parameter("b", at::zeros({1}));
  }
};

SGD optimizer_of(Two& model, double second = 0.5) {
  return SGD(model, {.lr = lr_golden_base, .groups = {{.params = [](std::string_view name) { return name == "b"; }, .lr = second}}});
}

double lr_of(const Optimizer& optimizer, size_t group) { return number(optimizer.groups().at(group).options, "lr"); }

LrCurve curve(const std::string& name) {
  if (name == "constant") return constant_lr({.factor = 0.25, .total_iters = 4});
  if (name == "linear") return linear_lr({.start_factor = 0.2, .end_factor = 0.8, .total_iters = 7});
  if (name == "cosine") return cosine_annealing_lr({.T_max = 20, .min_ratio = 0.1});
  if (name == "step") return step_lr({.step_size = 3, .gamma = 0.5});
  if (name == "warmup_constant") return warmup_then(5, constant_lr({.factor = 1}));
  if (name == "warmup_cosine") return warmup_cosine({.warmup = 5, .total = 20, .min_ratio = 0.1});
  if (name == "warmup_linear") return warmup_linear({.warmup = 5, .total = 20, .min_ratio = 0.1});
  return warmup_then(5, step_lr({.step_size = 4, .gamma = 0.5}));
}

TEST(LrSchedule, GivesTheRatesOfStock) {
  for (const auto& [name, rates] : lr_golden) {
    Two model;
    SGD optimizer = optimizer_of(model);
    LrSchedule schedule(optimizer, curve(name));
    for (size_t step = 0; step < rates.size(); ++step) {
      EXPECT_NEAR(lr_of(optimizer, 1), rates[step], 1e-15) << name << " at step " << step;
      EXPECT_NEAR(lr_of(optimizer, 0), rates[step] * 5, 1e-14) << name << ": each group from its own";
      schedule.step();
    }
  }
}

TEST(LrSchedule, StaysAtItsEnd) {
  for (const LrCurve& curve : {warmup_cosine({.warmup = 2, .total = 10, .min_ratio = 0.25}),
                               warmup_linear({.total = 10, .min_ratio = 0.25}), cosine_annealing_lr({.T_max = 10, .min_ratio = 0.25})}) {
    EXPECT_NEAR(curve(10), 0.25, 1e-15);
    EXPECT_EQ(curve(1000000), curve(10));
  }
}

TEST(LrSchedule, KeepsTheInitialRateInTheGroupAndBeginsWithOneThatIsThere) {
  Two model;
  SGD optimizer = optimizer_of(model);
  LrSchedule first(optimizer, step_lr({.step_size = 1, .gamma = 0.5}));
  first.step();
  EXPECT_EQ(number(optimizer.groups()[1].options, "initial_lr"), lr_golden_base);
  EXPECT_EQ(lr_of(optimizer, 1), lr_golden_base / 2);
  LrSchedule second(optimizer, constant_lr({.factor = 1}));
  EXPECT_EQ(lr_of(optimizer, 1), lr_golden_base);
}

TEST(LrSchedule, GoesOnWhereItsStateWasTaken) {
  Two model, other;
  SGD optimizer = optimizer_of(model), fresh = optimizer_of(other, 0.9);
  LrSchedule schedule(optimizer, curve("warmup_cosine")), resumed(fresh, curve("warmup_cosine"));
  for (int step = 0; step < 9; ++step) schedule.step();
  resumed.load_state_dict(schedule.state_dict());
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(resumed.last_epoch(), schedule.last_epoch());
    for (const size_t group : {0, 1}) EXPECT_EQ(lr_of(fresh, group), lr_of(optimizer, group));
    schedule.step();
    resumed.step();
  }
}

TEST(LrSchedule, HasTheStateThatAllOfStocksHave) {
  Two model;
  SGD optimizer = optimizer_of(model);
  LrSchedule schedule(optimizer, step_lr({.step_size = 1, .gamma = 0.5}));
  schedule.step();
  const StateDict state = schedule.state_dict();
  EXPECT_EQ(*state.object("last_epoch"), Value(1));
  EXPECT_EQ(*state.object("_step_count"), Value(2));
  EXPECT_EQ(*state.object("base_lrs"), Value::list({0.5, 0.1}));
  EXPECT_EQ(*state.object("_last_lr"), Value::list({0.25, 0.05}));
  EXPECT_EQ(state.leaves.size(), 4u);
}

TEST(LrSchedule, RefusesTheStateOfOtherGroups) {
  Two model;
  SGD optimizer = optimizer_of(model);
  LrSchedule schedule(optimizer, constant_lr({}));
  StateDict state;
  state.add("base_lrs", Value::list({0.5}));
  state.add("last_epoch", Value(7));
  EXPECT_THROW(schedule.load_state_dict(state), Error);
  EXPECT_EQ(schedule.last_epoch(), 0);
}

TEST(LrCurves, RefuseWhatStockRefuses) {
  EXPECT_THROW(linear_lr({.start_factor = 1.5}), Error);
  EXPECT_THROW(linear_lr({.total_iters = 0}), Error);
  EXPECT_THROW(constant_lr({.factor = 2}), Error);
  EXPECT_THROW(cosine_annealing_lr({.T_max = 0}), Error);
  EXPECT_THROW(step_lr({.step_size = 0}), Error);
  EXPECT_THROW(sequential_lr({}, {}), Error);
  EXPECT_THROW(sequential_lr({constant_lr({}), constant_lr({})}, {}), Error);
  EXPECT_THROW(warmup_cosine({.warmup = 10, .total = 10}), Error);
}

}  // namespace
}  // namespace tessera
