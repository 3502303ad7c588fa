// Strategies, precisions and schedules beyond the plain ones, each against one process's training.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/normalization.h>

#include <limits>

#include "tessera/fsdp/no_sync.h"
#include "tessera/fsdp/policy.h"
#include "tessera/fsdp/recompute.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/unit_counters.h"
#include "tessera/fsdp/unit_list.h"
#include "tessera/fsdp/unshard.h"

namespace tessera::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double rounding = 2e-6;           // of float32, after a few steps on values of about 1
constexpr double gradient_rounding = 2e-5;  // on values of about 10

at::Tensor mine(const Job& job, int step = 0) { return rows_of(batch(step, batch_rows), job.rank(), job.size()); }

std::string error_of(const std::function<void()>& work) {
  const auto outcome = capture(work);
  return outcome ? "" : outcome.fault.what;
}

Values gradients_alone(int steps = 1) {
  Net model = plain_net();
  for (int step = 0; step < steps; ++step) loss(model(batch(step, batch_rows))).backward();
  model->unused.mutable_grad() = at::zeros({5});
  return gradients_of(model);
}

TEST(Hybrid, TrainsAsOneProcessDoesForEveryShapeOfTheMesh) {
  const Values alone = train_alone(adamw, 5);
  for (const Strategy strategy : {Strategy::hybrid_shard, Strategy::hybrid_shard_grad_op}) {
    for (const auto& [ranks, shards] : {std::pair{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 3}, {4, 2}, {4, 1}, {4, 4}, {6, 3}}) {
      const Values together = train_on(ranks, {.strategy = strategy, .shards = shards}, adamw, 5);
      EXPECT_LE(difference(together, alone), rounding) << name(strategy) << ", " << ranks << " ranks by " << shards;
    }
  }
}

TEST(Hybrid, HoldsAShardOfItsGroup) {
  run_ranks(4, [](Job& job) {
    auto model = sharded_net(job, {.strategy = Strategy::hybrid_shard, .shards = 2});
    for (const NamedFlatUnit& named : flat_units(model)) {
      EXPECT_EQ(named.unit->layout().world_size, 2);
      EXPECT_EQ(named.unit->shard_rank(), job.rank() % 2);
      EXPECT_EQ(named.unit->replica(), job.rank() / 2);
    }
  });
}

TEST(Hybrid, NeedsToKnowItsShards) {
  run_ranks(2, [](Job& job) {
    EXPECT_THAT(error_of([&] { sharded_net(job, {.strategy = Strategy::hybrid_shard}); }), HasSubstr("without a number of shards"));
  });
  run_ranks(3, [](Job& job) { EXPECT_NE(error_of([&] { sharded_net(job, {.strategy = Strategy::hybrid_shard, .shards = 2}); }), ""); });
}

TEST(Hybrid, LeavesReplicasToTheLastBackwardOfSeveral) {
  const Values alone = gradients_alone(3);
  for (const Strategy strategy : {Strategy::hybrid_shard, Strategy::no_shard, Strategy::full_shard}) {
    run_ranks(4, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = strategy, .shards = 2});
      {
        const NoSync quiet(model, {.among_replicas_only = true});
        for (int step = 0; step < 2; ++step) loss(model(mine(job, step))).backward();
        EXPECT_EQ(unit_counters(model).gradient_bytes, 0) << "no whole gradient is kept";
        for (const NamedFlatUnit& named : flat_units(model)) {
          if (strategy != Strategy::full_shard) EXPECT_FALSE(named.unit->shard().grad().defined()) << "nor has it gone all its way";
        }
      }
      loss(model(mine(job, 2))).backward();
      EXPECT_LE(difference(gradients_of(model), alone), gradient_rounding) << name(strategy);
    });
  }
}

TEST(Gradients, AreDividedByWhatIsAsked) {
  const Values alone = gradients_alone();
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto sum = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards, .gradient_divisor = 1});
      loss(sum(mine(job))).backward();
      Values mean = gradients_of(sum);
      for (auto& [name, gradient] : mean) gradient.div_(job.size());
      EXPECT_LE(difference(mean, alone), gradient_rounding) << text_of(spread);
    });
  }
}

TEST(Gradients, MayTravelInFewerBits) {
  const Values alone = gradients_alone();
  for (const Spread& spread : spreads()) {
    for (const auto& [dtype, bound] : {std::pair{at::kBFloat16, 0.1}, {at::kHalf, 0.02}}) {
      run_ranks(spread.ranks, [&, dtype = dtype, bound = bound](Job& job) {
        auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards, .mixed_precision = {.reduce_dtype = dtype}});
        loss(model(mine(job))).backward();
        const Values gradients = gradients_of(model);
        const double off = difference(gradients, alone);
        EXPECT_LE(off, bound) << text_of(spread) << c10::toString(dtype);
        EXPECT_GT(off, 0);
        for (const auto& [name, gradient] : gradients) EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
      });
    }
  }
}

// One process's mixed precision by hand: a model in bfloat16 whose parameters are those of the one in float32, rounded.
Values train_in_bfloat16(int steps) {
  Net exact = plain_net();
  SGD optimizer(exact, {.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01});
  for (int step = 0; step < steps; ++step) {
    Net rounded = plain_net();
    rounded->to(at::kBFloat16);
    const auto from = named_parameters(exact);
    const auto into = named_parameters(rounded);
    {
      const at::NoGradGuard no_grad;
      for (size_t i = 0; i < from.size(); ++i) into[i].tensor.copy_(from[i].tensor);
    }
    loss(rounded(batch(step, batch_rows).to(at::kBFloat16)).to(at::kFloat)).backward();
    for (size_t i = 0; i < from.size(); ++i) {
      if (into[i].tensor.grad().defined()) from[i].tensor.mutable_grad() = into[i].tensor.grad().to(at::kFloat);
    }
    exact->unused.mutable_grad() = at::zeros({5});
    optimizer.step();
    optimizer.zero_grad();
  }
  return values_of(exact);
}

constexpr MixedPrecision in_bfloat16 = {.param_dtype = at::kBFloat16, .reduce_dtype = at::kFloat, .output_dtype = at::kFloat};

TEST(MixedPrecision, TrainsAsOneProcessDoesInBfloat16WithFloat32Masters) {
  const Values alone = train_in_bfloat16(4);
  for (const Spread& spread : spreads()) {
    const FsdpOptions options{.strategy = spread.strategy, .shards = spread.shards, .mixed_precision = in_bfloat16};
    const double off = difference(train_on(spread.ranks, options, sgd, 4), alone);
    EXPECT_LE(off, spread.ranks == 1 ? 0 : 0.05) << text_of(spread);
  }
}

TEST(MixedPrecision, KeepsMastersAndTheirGradientsAsTheModelWasBuilt) {
  const Values built = values_of(plain_net());
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job, {.mixed_precision = in_bfloat16});
    EXPECT_TRUE(identical(values_of(model), built)) << "whole parameters are precise";
    model.module().before_block = [&] { EXPECT_EQ(model.module().in.scalar_type(), at::kBFloat16); };
    const at::Tensor output = model(mine(job));
    EXPECT_EQ(output.scalar_type(), at::kFloat);
    loss(output).backward();
    for (const NamedFlatUnit& named : flat_units(model)) {
      EXPECT_EQ(named.unit->shard().scalar_type(), at::kFloat);
      if (named.unit->shard().grad().defined()) EXPECT_EQ(named.unit->shard().grad().scalar_type(), at::kFloat);
    }
    EXPECT_EQ(unit_list(model).front().param_dtype, at::kBFloat16);
  });
}

TEST(MixedPrecision, IsLeftInEvalWhereThatIsAsked) {
  Net plain = plain_net();
  const at::Tensor expected = plain(batch(0, batch_rows));
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      MixedPrecision mixed = in_bfloat16;
      mixed.full_in_eval = true;
      auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards, .mixed_precision = mixed});
      model->eval();
      {
        const at::NoGradGuard no_grad;
        EXPECT_TRUE(at::equal(model(batch(0, batch_rows)), expected));
      }
      model->train();
      EXPECT_FALSE(at::equal(model(batch(0, batch_rows)), expected));
      loss(model(mine(job))).backward();
    });
  }
}

// A block with a norm that is a unit of its own, in float32.
struct NormedImpl : torch::nn::Module {
  NormedImpl() {
    weight = register_parameter("weight", at::ones({net_width, net_width}));
    norm = wrap(torch::nn::LayerNorm(torch::nn::LayerNormOptions({net_width})),
                {.mixed_precision = MixedPrecision{.param_dtype = at::kFloat, .output_dtype = at::kBFloat16}});
    register_module("norm", norm);
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor hidden = x.matmul(weight);
    seen = norm.module().weight.scalar_type();
    return norm(hidden).matmul(weight);
  }
  at::Tensor weight;
  Wrapped<torch::nn::LayerNormImpl> norm = nullptr;
  at::ScalarType seen = at::kByte;
};
TORCH_MODULE(Normed);

TEST(MixedPrecision, HasExceptionsByModule) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Normed(); }, {.seed = 1, .mixed_precision = {.param_dtype = at::kBFloat16}});
    const at::Tensor output = model(at::ones({2, net_width}));
    EXPECT_EQ(model.module().seen, at::kFloat);
    EXPECT_EQ(output.scalar_type(), at::kBFloat16);
    output.sum().backward();
  });
}

struct TowerImpl : torch::nn::Module {
  explicit TowerImpl(int count) {
    for (int i = 0; i < count; ++i) {
      blocks.push_back(wrap(Block(net_width)));
      register_module("block" + std::to_string(i), blocks.back());
    }
  }
  at::Tensor forward(at::Tensor x) {
    for (auto& block : blocks) x = block(x);
    return x;
  }
  std::vector<Wrapped<BlockImpl>> blocks;
};
TORCH_MODULE(Tower);

TEST(Recompute, OfUnitsThatAreUsedOnceChangesNoBit) {
  run_ranks(2, [](Job& job) {
    std::vector<Values> gradients;
    for (const bool recompute : {false, true}) {
      auto model = fsdp(job, [] { return Tower(3); }, {.seed = 5, .recompute = recompute});
      loss(model(at::ones({3, net_width}))).backward();
      gradients.push_back(gradients_of(model));
      EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
      EXPECT_EQ(unit_counters(model).reductions, 3);
    }
    EXPECT_TRUE(identical(gradients[0], gradients[1]));
  });
}

TEST(Recompute, RunsForwardAgainWithTheSameRandomNumbers) {
  const at::Tensor weight = at::ones({8, 8}).set_requires_grad(true);
  const at::Tensor x = batch(0, 2).repeat({1, 2}).set_requires_grad(true);
  int runs = 0;
  const auto forward = [&](const at::Tensor& input, double p) {
    ++runs;
    return at::dropout(input.matmul(weight), p, /*train=*/true).tanh();
  };
  at::manual_seed(3);
  const at::Tensor straight = forward(x, 0.5);
  straight.sum().backward();
  const at::Tensor of_x = x.grad().clone(), of_weight = weight.grad().clone();
  x.mutable_grad() = at::Tensor();
  weight.mutable_grad() = at::Tensor();
  at::manual_seed(3);
  const at::Tensor again = recompute(forward, x, 0.5);
  EXPECT_TRUE(at::equal(again, straight));
  EXPECT_EQ(runs, 2);
  const at::Tensor before = at::rand({3});
  at::manual_seed(4);
  const at::Tensor first = at::rand({1});
  again.sum().backward();
  EXPECT_EQ(runs, 3);
  EXPECT_TRUE(at::equal(x.grad(), of_x));
  EXPECT_TRUE(at::equal(weight.grad(), of_weight));
  at::manual_seed(4);
  EXPECT_TRUE(at::equal(at::rand({1}), first));
}

TEST(Recompute, KnowsAnInputThatWasChangedInPlace) {
  const at::Tensor weight = at::ones({4, 4}).set_requires_grad(true);
  const at::Tensor x = at::ones({2, 4});
  const at::Tensor y = recompute([&](const at::Tensor& input) { return input.matmul(weight); }, x);
  x.add_(1);
  EXPECT_THAT(error_of([&] { y.sum().backward(); }), HasSubstr("modified by an inplace operation"));
}

TEST(Recompute, OutsideBackwardIsForwardAlone) {
  const at::NoGradGuard no_grad;
  const at::Tensor y = recompute([](const at::Tensor& input) { return std::pair{input + 1, 7}; }, at::ones({2})).first;
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(y[0].item<float>(), 2);
}

TEST(Prefetch, OfAnyDepthChangesNoBitAndBoundsWhatIsWhole) {
  run_ranks(2, [](Job& job) {
    Values first;
    for (const int depth : {0, 1, 2, 8}) {
      auto model = fsdp(job, [] { return Tower(6); }, {.seed = 5, .prefetch = depth});
      const int64_t unit = unit_list(model).back().full_bytes;
      for (int step = 0; step < 2; ++step) {
        reset_unit_counters(model);
        loss(model(at::ones({3, net_width}))).backward();
      }
      EXPECT_LE(unit_counters(model).parameter_peak_bytes, (depth + 1) * unit) << depth;
      if (depth > 0) EXPECT_GT(unit_counters(model).parameter_peak_bytes, unit) << depth;
      if (depth == 0) first = gradients_of(model);
      EXPECT_TRUE(identical(gradients_of(model), first));
    }
  });
  run_ranks(2, [](Job& job) { EXPECT_THAT(error_of([&] { sharded_net(job, {.prefetch = -1}); }), HasSubstr("prefetch is -1")); });
}

TEST(Unshard, ByHandMakesAUnitWholeUntilItIsFreed) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job);
    auto& block = model.module().blocks[1];
    unshard(block);
    EXPECT_TRUE(block->unit() != nullptr);
    EXPECT_EQ(error_of([&] { block.module().first_weight.sum().item<float>(); }), "");
    reshard(block);
    EXPECT_THAT(error_of([&] { block.module().first_weight.sum().item<float>(); }), HasSubstr("block1.first_weight"));
    unshard(model, {.recurse = true, .wait = false});
    const int64_t gathers = unit_counters(model).gathers;
    model(mine(job));
    EXPECT_EQ(unit_counters(model).gathers, gathers + 1) << "block0 is freed after its first use, and used again";
    reshard(model, /*recurse=*/true);
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
  });
}

TEST(KeptWhole, AreUnitsBelowTheThreshold) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job, {.keep_whole_below = 50});
    for (const UnitInfo& unit : unit_list(model)) {
      EXPECT_EQ(unit.strategy, unit.numel < 50 ? Strategy::shard_grad_op : Strategy::full_shard) << unit.name;
    }
  });
}

std::vector<std::string> names_of_units(const Job& job, const WrapPolicy& policy) {
  auto model = sharded_net(job, {.policy = policy});
  std::vector<std::string> names;
  for (const UnitInfo& unit : unit_list(model)) names.push_back(unit.name);
  return names;
}

TEST(Policy, ChoosesUnitsByTypeSizeNameOrAnything) {
  run_ranks(1, [](Job& job) {
    const auto all = names_of_units(job, {});
    EXPECT_EQ(all.size(), 5);
    EXPECT_EQ(names_of_units(job, wrap_type<BlockImpl>()), all);
    EXPECT_THAT(names_of_units(job, wrap_type<NetImpl>()), ElementsAre("_flat_param")) << "the root is one whatever the policy";
    EXPECT_EQ(names_of_units(job, wrap_from(50)).size(), 4) << "all blocks but the small one";
    int asked = 0;
    EXPECT_THAT(names_of_units(job, [&](const WrapCandidate&) { return ++asked == 2; }), ElementsAre("_flat_param", "block1._flat_param"));
    const auto odd = wrap_named([](std::string_view name) { return name == "head"; });
    auto named = fsdp(job, [] { return Tower(0); }, {.policy = odd});
    const EnableWrap scope(job, {.policy = any_of({odd, wrap_from(1000)})});
    EXPECT_NE(wrap(Block(4), {.name = "head"})->unit(), nullptr);
    EXPECT_EQ(wrap(Block(4), {.name = "tail"})->unit(), nullptr);
    EXPECT_NE(wrap(Block(40))->unit(), nullptr);
  });
}

TEST(UnitList, SaysWhatThereIs) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job, {.strategy = Strategy::shard_grad_op});
    const std::string text = describe_units(model);
    EXPECT_THAT(text, AllOf(HasSubstr("block1._flat_param"), HasSubstr("  block1.first_weight\n"), HasSubstr("shard_grad_op"),
                            HasSubstr("84 elements of float"), HasSubstr("in all")));
    loss(model(mine(job))).backward();
    EXPECT_THAT(memory_summary(model), AllOf(HasSubstr("at the peak"), HasSubstr("block2._flat_param"), Not(HasSubstr("(now)"))));
  });
}

TEST(Summon, ShowsTheFirstRankAloneWhatOthersHelpToGather) {
  const Values built = values_of(plain_net());
  run_ranks(3, [&](Job& job) {
    auto model = sharded_net(job);
    EXPECT_THAT(error_of([&] { SummonFullParams(model, {.rank0_only = true}); }), HasSubstr("rank0_only and writeback"));
    const SummonFullParams whole(model, {.writeback = false, .rank0_only = true});
    if (job.rank() == 0) EXPECT_TRUE(at::equal(model.module().in, built.at("in")));
    else EXPECT_NE(error_of([&] { model.module().in.sum().item<float>(); }), "");
  });
}

TEST(Summon, ShowsGradientsAndTakesThemBack) {
  const Values alone = gradients_alone();
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards});
      loss(model(mine(job))).backward();
      {
        const SummonFullParams whole(model, {.with_grads = true});
        const at::Tensor gradient = model.module().blocks[1].module().first_weight.mutable_grad();
        EXPECT_LE((gradient - alone.at("block1.first_weight")).abs().max().item<double>(), gradient_rounding);
        gradient.fill_(7);
      }
      EXPECT_FALSE(model.module().blocks[1].module().first_weight.mutable_grad().defined());
      EXPECT_EQ(gradients_of(model).at("block1.first_weight").min().item<float>(), 7) << text_of(spread);
      EXPECT_EQ(gradients_of(model).at("block1.first_weight").max().item<float>(), 7);
    });
  }
}

TEST(Summon, RefusesWhatWouldTakeItsParametersAway) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job);
    loss(model(mine(job))).backward();
    const SummonFullParams whole(model, {.with_grads = true});
    EXPECT_THAT(error_of([&] { SummonFullParams again(model); }), HasSubstr("while SummonFullParams holds"));
    EXPECT_THAT(error_of([&] { reshard(model, true); }), HasSubstr("while SummonFullParams holds"));
    EXPECT_THAT(error_of([&] { unshard(model); }), HasSubstr("while SummonFullParams holds"));
    for (const NamedFlatUnit& named : flat_units(model)) named.unit->shard().mutable_grad() = at::Tensor();  // as by zero_grad()
  });
}

// One unit twice in a row, as layers that share their weights: each use gives it a gradient of its own.
struct TwiceImpl : torch::nn::Module {
  TwiceImpl() { block = register_module("block", wrap(Block(net_width))); }
  at::Tensor forward(const at::Tensor& x) { return block(block(x)); }
  Wrapped<BlockImpl> block = nullptr;
};
TORCH_MODULE(Twice);

TEST(Recompute, OfAUnitTwiceInARowAddsUpBothGradients) {
  for (const Strategy strategy : {Strategy::full_shard, Strategy::no_shard, Strategy::hybrid_shard}) {
    run_ranks(4, [&](Job& job) {
      std::vector<Values> gradients;
      for (const bool recompute : {false, true}) {
        for (const bool quiet : {false, true}) {
          auto model = fsdp(job, [] { return Twice(); }, {.seed = 5, .strategy = strategy, .shards = 2, .recompute = recompute});
          const at::Tensor x = batch(job.rank(), 3).repeat({1, 2}).narrow(1, 0, net_width);
          if (quiet) {
            const NoSync no_sync(model, {.among_replicas_only = strategy == Strategy::hybrid_shard});
            loss(model(x)).backward();
          } else {
            loss(model(x)).backward();
          }
          loss(model(x)).backward();
          gradients.push_back(gradients_of(model));
        }
      }
      for (const Values& other : gradients) EXPECT_LE(difference(other, gradients.front()), gradient_rounding) << name(strategy);
    });
  }
}

// A root that runs its plain blocks again by hand, in pieces of its own parameters.
struct PiecesImpl : torch::nn::Module {
  PiecesImpl() {
    for (int i = 0; i < 3; ++i) blocks.push_back(register_module("block" + std::to_string(i), Block(net_width)));
  }
  at::Tensor forward(at::Tensor x) {
    for (auto& block : blocks) {
      if (again) x = recompute([&block](const at::Tensor& h) { return block->forward(h); }, x);
      else x = block->forward(x);
    }
    return x;
  }
  std::vector<Block> blocks;
  bool again = false;
};
TORCH_MODULE(Pieces);

TEST(Recompute, ByHandInPiecesOfAUnitGivesTheSameGradients) {
  for (const Strategy strategy : {Strategy::full_shard, Strategy::shard_grad_op, Strategy::no_shard}) {
    run_ranks(2, [&](Job& job) {
      std::vector<Values> gradients;
      for (const bool again : {false, true}) {
        auto model = fsdp(job, [] { return Pieces(); }, {.seed = 5, .strategy = strategy});
        model.module().again = again;
        loss(model(batch(job.rank(), 3).repeat({1, 2}).narrow(1, 0, net_width))).backward();
        gradients.push_back(gradients_of(model));
        EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
      }
      EXPECT_LE(difference(gradients[0], gradients[1]), gradient_rounding) << name(strategy);
    });
  }
}

TEST(Recompute, RunsAgainOnARetainedGraph) {
  const at::Tensor weight = at::ones({4, 4}).set_requires_grad(true);
  const at::Tensor y = recompute([&](const at::Tensor& x) { return x.matmul(weight).tanh(); }, batch(0, 2)).sum();
  y.backward({}, /*retain_graph=*/true);
  const at::Tensor once = weight.grad().clone();
  y.backward();
  EXPECT_TRUE(at::equal(weight.grad(), once * 2));
}

TEST(Recompute, LeavesResultsThatAreNoFloatsAlone) {
  const at::Tensor weight = at::ones({4, 4}).set_requires_grad(true);
  const auto [y, indices] = recompute([&](const at::Tensor& x) { return std::pair{x.matmul(weight), x.argmax(1)}; }, batch(0, 2));
  EXPECT_EQ(indices.scalar_type(), at::kLong);
  EXPECT_FALSE(indices.requires_grad());
  y.sum().backward();
  EXPECT_TRUE(weight.grad().defined());
}

TEST(Recompute, RefusesAForwardThatChangesItsArgument) {
  EXPECT_THAT(error_of([&] { recompute([](const at::Tensor& x) { return at::Tensor(x).add_(1) * 2; }, at::ones({2})); }),
              HasSubstr("changed its argument in place"));
}

TEST(Unshard, ThatIsUnderWayWhenTheShardChangesIsDoneAgain) {
  run_ranks(2, [](Job& job) {
    auto early = sharded_net(job), late = sharded_net(job);
    unshard(early, {.recurse = true, .wait = false});
    for (auto* model : {&early, &late}) {
      const at::NoGradGuard no_grad;
      for (const NamedFlatUnit& named : flat_units(*model)) named.unit->shard().mul_(0.5);
    }
    EXPECT_TRUE(at::equal(early(mine(job)), late(mine(job))));
  });
}

TEST(Gradients, InHalfOfWhatAHybridKeptAreDividedOnce) {
  run_ranks(4, [](Job& job) {
    std::vector<Values> gradients;
    for (const auto dtype : {at::kFloat, at::kHalf}) {
      auto model = sharded_net(job, {.strategy = Strategy::hybrid_shard, .shards = 2, .mixed_precision = {.reduce_dtype = dtype}});
      {
        const NoSync quiet(model, {.among_replicas_only = true});
        model.module().idle(at::ones({1, 2}) * (job.rank() + 1)).sum().backward();
      }
      loss(model(mine(job))).backward();  // does not reach the idle block
      gradients.push_back(gradients_of(model));
    }
    ASSERT_TRUE(gradients[0].contains("idle.first_weight"));
    const at::Tensor exact = gradients[0].at("idle.second_bias"), half = gradients[1].at("idle.second_bias");
    EXPECT_LE((exact - half).abs().max().item<double>(), 0.01 * exact.abs().max().item<double>());
  });
}

TEST(Fsdp, RefusesRanksWhoseOptionsDiffer) {
  for (const auto& [name, options] :
       std::vector<std::pair<const char*, FsdpOptions>>{{"divisor", {.gradient_divisor = 3}},
                                                        {"prefetch", {.prefetch = 2}},
                                                        {"recompute", {.recompute = true}},
                                                        {"reduce", {.mixed_precision = {.reduce_dtype = at::kBFloat16}}}}) {
    run_ranks(2, [&, name = name, options = options](Job& job) {
      EXPECT_THAT(error_of([&] { sharded_net(job, job.rank() == 0 ? FsdpOptions{} : options); }), HasSubstr("another model")) << name;
    });
  }
  for (const double divisor : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    run_ranks(1, [&](Job& job) {
      EXPECT_THAT(error_of([&] { sharded_net(job, {.gradient_divisor = divisor}); }), HasSubstr("gradient_divisor is"));
    });
  }
}

}  // namespace
}  // namespace tessera::testing
