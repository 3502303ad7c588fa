// Sharded training against one process's.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/fsdp/no_sync.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/unit_counters.h"
#include "tessera/fsdp/unshard.h"

namespace tessera::testing {
namespace {

constexpr double rounding = 2e-6;            // of float32, after a few steps on values of about 1
constexpr double gradient_rounding = 2e-5;  // on values of about 10
constexpr Strategy all_strategies[] = {Strategy::full_shard, Strategy::shard_grad_op, Strategy::no_shard};

at::Tensor mine(const Job& job, int step = 0) { return rows_of(batch(step, batch_rows), job.rank(), job.size()); }

TEST(Training, EndsWhereOneProcessEndsForAnyNumberOfRanks) {
  for (const auto& [name, optimizer] : {std::pair{"adamw", adamw}, {"sgd", sgd}}) {
    const Values alone = train_alone(optimizer, 5);
    for (int ranks = 1; ranks <= 4; ++ranks) {
      for (const Strategy strategy : all_strategies) {
        const Values together = train_on(ranks, {.strategy = strategy}, optimizer, 5);
        EXPECT_LE(difference(together, alone), rounding) << name << " on " << ranks << " ranks, strategy " << static_cast<int>(strategy);
      }
    }
  }
}

TEST(Training, RepeatsBitForBitWithAndWithoutPrefetchAndForAnyAlignment) {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const Values once = train_on(ranks, {}, adamw, 4);
    EXPECT_TRUE(identical(once, train_on(ranks, {}, adamw, 4))) << ranks;
    EXPECT_TRUE(identical(once, train_on(ranks, {.prefetch = false}, adamw, 4))) << ranks;
    EXPECT_TRUE(identical(once, train_on(ranks, {.alignment_bytes = 1}, adamw, 4))) << ranks;
    EXPECT_TRUE(identical(once, train_on(ranks, {.alignment_bytes = 256}, adamw, 4))) << ranks;
  }
}

// The gradients that one process has for the whole batch of these steps, added up.
Values gradients_alone(int steps = 1) {
  Net model = plain_net();
  for (int step = 0; step < steps; ++step) loss(model(batch(step, batch_rows))).backward();
  model->unused.mutable_grad() = at::zeros_like(model->unused);
  return gradients_of(model);
}

TEST(Backward, GivesTheGradientsOfTheWholeBatch) {
  const Values alone = gradients_alone();
  for (const Strategy strategy : all_strategies) {
    run_ranks(3, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = strategy});
      loss(model(mine(job))).backward();
      const Values together = gradients_of(model);
      EXPECT_LE(difference(together, alone), gradient_rounding);
      EXPECT_FALSE(together.contains("idle.first_weight")) << "a unit that was not used has no gradient";
    });
  }
}

TEST(Backward, AddsToGradientsThatAreThere) {
  const Values alone = gradients_alone(2);
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    for (int step = 0; step < 2; ++step) loss(model(mine(job, step))).backward();
    EXPECT_LE(difference(gradients_of(model), alone), gradient_rounding);
  });
}

TEST(Backward, OfSeveralForwardsAtOnceOrOneByOneIsTheSame) {
  const Values alone = gradients_alone(2);
  run_ranks(2, [&](Job& job) {
    auto joint = sharded_net(job);
    const at::Tensor first = loss(joint(mine(job, 0)));
    (first + loss(joint(mine(job, 1)))).backward();
    EXPECT_LE(difference(gradients_of(joint), alone), gradient_rounding);

    auto apart = sharded_net(job);
    const at::Tensor a = loss(apart(mine(job, 0)));
    const at::Tensor b = loss(apart(mine(job, 1)));
    b.backward();
    a.backward();
    EXPECT_LE(difference(gradients_of(apart), alone), gradient_rounding);
  });
}

TEST(Backward, RunsAgainOnARetainedGraph) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    const at::Tensor value = loss(model(mine(job)));
    value.backward({}, /*retain_graph=*/true);
    Values once = gradients_of(model);
    value.backward();
    for (auto& [name, gradient] : once) gradient.mul_(2);
    EXPECT_LE(difference(gradients_of(model), once), 0);
  });
}

TEST(NoSync, AddsUpWithoutTalkingAndReducesWithTheFirstBackwardAfterIt) {
  const Values alone = gradients_alone(3);
  for (const Strategy strategy : all_strategies) {
    run_ranks(2, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = strategy});
      {
        const NoSync quiet(model);
        for (int step = 0; step < 2; ++step) loss(model(mine(job, step))).backward();
        EXPECT_EQ(unit_counters(model).reductions, 0);
        EXPECT_TRUE(gradients_of(model).empty());
      }
      loss(model(mine(job, 2))).backward();
      EXPECT_LE(difference(gradients_of(model), alone), gradient_rounding);
      EXPECT_EQ(unit_counters(model).gradient_bytes, 0);
    });
  }
}

TEST(NoSync, LeavesNoGradientBehindInAUnitThatTheLastBackwardDoesNotReach) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    auto only = model.module().idle;
    {
      const NoSync quiet(model);
      only(at::ones({1, 2})).sum().backward();
    }
    loss(model(mine(job))).backward();
    const Values gradients = gradients_of(model);
    ASSERT_TRUE(gradients.contains("idle.second_bias"));
    EXPECT_TRUE(at::equal(gradients.at("idle.second_bias"), at::ones({2})));
  });
}

// Bytes of the full buffer of each unit, by the path of its module.
std::map<std::string, int64_t> unit_bytes(ModuleRef model) {
  std::map<std::string, int64_t> bytes;
  for (const NamedFlatUnit& named : flat_units(model)) bytes[named.module] += named.unit->layout().padded_numel * 4;
  return bytes;
}

TEST(Memory, HoldsTheOutermostUnitAndTwoMoreAndOneGradientAtATime) {
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(8); }, {.seed = 1});
    auto bytes = unit_bytes(model);
    const int64_t root = bytes.at("");
    const int64_t block = bytes.at("block0");
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0) << "nothing is whole before the first forward";
    // block 0 is used again at the end of forward: its first use needs the last's gradient, so it is whole all through
    // backward, on top of the usual two.
    for (int step = 0; step < 3; ++step) {
      reset_unit_counters(model);
      const at::Tensor value = loss(model(mine(job, step)));
      EXPECT_LE(unit_counters(model).parameter_peak_bytes, root + 2 * block);
      EXPECT_EQ(unit_counters(model).parameter_bytes, root) << "the outermost unit stays whole for backward";
      value.backward();
      EXPECT_LE(unit_counters(model).parameter_peak_bytes, root + 3 * block);
      EXPECT_LE(unit_counters(model).gradient_peak_bytes, std::max(root, block));
      EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
      EXPECT_EQ(unit_counters(model).gradient_bytes, 0);
    }
  });
}

TEST(Memory, ConstructionHoldsOneUnitAtATime) {
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(8); }, {.seed = 1});
    int64_t largest = 0;
    for (const auto& [path, bytes] : unit_bytes(model)) largest = std::max(largest, bytes);
    EXPECT_EQ(unit_counters(model).parameter_peak_bytes, largest);
  });
}

TEST(Memory, OfAFreedUnitIsAnothersAndWhatPointedThereStillRefuses) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_net(job);
    for (int step = 0; step < 3; ++step) loss(model(mine(job, step))).backward();
    auto& blocks = model.module().blocks;
    unshard(blocks[0]);
    const at::Tensor stale = blocks[0].module().first_weight.detach();
    const void* const where = stale.const_data_ptr();
    reshard(blocks[0]);
    unshard(blocks[2]);
    EXPECT_EQ(blocks[2].module().first_weight.const_data_ptr(), where);
    const auto outcome = capture([&] { stale.sum(); });
    EXPECT_THAT(outcome.fault.what, ::testing::HasSubstr("resharded parameters have no values: block0.first_weight"));
    reshard(blocks[2]);
  });
}

TEST(Memory, ThatOnlyASummonTookIsNotKept) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Net(8); }, {.seed = 1});
    for (int step = 0; step < 3; ++step) loss(model(mine(job, step))).backward();
    const int64_t held = unit_counters(model).held_bytes;
    {
      const SummonFullParams whole(model);
      EXPECT_GT(unit_counters(model).held_bytes, held);
    }
    EXPECT_LE(unit_counters(model).held_bytes, held);
  });
}

TEST(Memory, IsNotKeptOnceACollectiveHasFailed) {
  const auto outcome = capture([] {
    run_ranks(2, [](Job& job) {
      auto model = sharded_net(job);
      for (int step = 0; step < 3; ++step) loss(model(mine(job, step))).backward();
      EXPECT_GT(unit_counters(model).kept_bytes, 0);
      if (job.rank() == 1) throw std::domain_error("rank 1 has had enough");
      EXPECT_THROW(loss(model(mine(job))).backward(), Error);
      model->zero_grad();
      EXPECT_EQ(unit_counters(model).kept_bytes, 0);
      throw std::domain_error("so has rank 0");
    });
  });
  EXPECT_FALSE(outcome);
}

TEST(Prefetch, GathersNothingTwice) {
  run_ranks(2, [&](Job& job) {
    std::vector<int64_t> gathers;
    for (const bool prefetch : {false, true}) {
      auto model = sharded_net(job, {.prefetch = prefetch});
      for (int step = 0; step < 3; ++step) loss(model(mine(job, step))).backward();
      gathers.push_back(unit_counters(model).gathers);
    }
    // Forward: the root, three blocks, the first block again; backward: three blocks. Three times.
    EXPECT_EQ(gathers, (std::vector<int64_t>{24, 24}));
  });
}

TEST(Prefetch, ForgetsAUnitThatTheNextForwardDoesNotUse) {
  const Values expected = [] {
    Net model = plain_net();
    loss(model->blocks[1](at::ones({2, net_width}))).backward();
    return gradients_of(model);
  }();
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    loss(model(mine(job))).backward();
    model->zero_grad();
    loss(model.module().blocks[1](at::ones({2, net_width}))).backward();
    EXPECT_LE(difference(gradients_of(model), expected), gradient_rounding);
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
  });
}

TEST(Forward, ThatThrowsLeavesAModelThatTrainsOnAsIfItHadNot) {
  const Values undisturbed = train_on(2, {}, adamw, 3);
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    loss(model(mine(job))).backward();  // so that there is an order to gather ahead by
    model->zero_grad();
    model.module().before_block = [] { throw std::domain_error("no"); };
    EXPECT_THROW(model(mine(job)), std::domain_error);
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
    model.module().before_block = nullptr;
    EXPECT_TRUE(identical(train_sharded(job, model, adamw, 3), undisturbed));
  });
}

TEST(Backward, ThatThrowsLeavesAModelThatTrainsOnAsIfItHadNot) {
  const Values undisturbed = train_on(2, {}, adamw, 3);
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    auto& blocks = model.module().blocks;
    const at::Tensor middle = blocks[1](at::ones({1, net_width}));
    middle.register_hook([](const at::Tensor&) { throw std::domain_error("no"); });
    // By then the last block's gradients are on their way to the other rank.
    EXPECT_ANY_THROW(blocks[2](middle).sum().backward());
    EXPECT_GT(unit_counters(model).gradient_bytes, 0);
    model->zero_grad();
    EXPECT_TRUE(identical(train_sharded(job, model, adamw, 3), undisturbed));
    EXPECT_EQ(unit_counters(model).gradient_bytes, 0);
  });
}

TEST(Backward, AfterTheModelIsGoneThrowsInsteadOfReadingWhatWasFreed) {
  run_ranks(2, [&](Job& job) {
    at::Tensor value;
    {
      auto model = sharded_net(job);
      value = loss(model(mine(job)));
    }
    EXPECT_THROW(value.backward(), c10::Error);
  });
}

TEST(Training, EndsOnEveryRankWhenOneThrows) {
  try {
    run_ranks(3, [&](Job& job) {
      auto model = sharded_net(job);
      for (int step = 0; step < 3; ++step) {
        if (step == 1 && job.rank() == 1) model.module().before_block = [] { throw std::domain_error("rank 1 has had enough"); };
        loss(model(mine(job))).backward();
      }
    });
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 1 has had enough"));
  }
}

TEST(Forward, ThatBranchesOtherwiseOnOneRankSaysWhichUnitEachWentTo) {
  const auto outcome = capture([] {
    run_ranks(2, [](Job& job) {
      Wrapped<NetImpl> model = sharded_net(job);
      model.module().blocks[static_cast<size_t>(job.rank())](at::zeros({2, net_width}));
    });
  });
  EXPECT_EQ(outcome.fault.code, Code::mismatch);
  EXPECT_THAT(outcome.fault.what, ::testing::AllOf(::testing::HasSubstr("all_gather of block0._flat_param"),
                                                   ::testing::HasSubstr("all_gather of block1._flat_param")));
}

TEST(Forward, WithoutGradientsFreesEverythingAndSeesTheNewestValues) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    const auto evaluate = [&] {
      const at::NoGradGuard no_grad;
      model->eval();
      const at::Tensor output = model(mine(job));
      model->train();
      return output;
    };
    const at::Tensor before = evaluate();
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
    EXPECT_FALSE(before.requires_grad());
    auto optimizer = adamw(model);
    loss(model(mine(job))).backward();
    EXPECT_TRUE(at::equal(evaluate(), before));
    optimizer->step();
    EXPECT_FALSE(at::equal(evaluate(), before));
  });
}

TEST(Forward, SeesAStepThatCameWhileTheUnitWasStillWhole) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    auto optimizer = adamw(model);
    loss(model(mine(job))).backward();
    const at::Tensor kept = model(mine(job));  // without backward: the root stays whole
    EXPECT_GT(unit_counters(model).parameter_bytes, 0);
    optimizer->step();
    const at::Tensor fresh = model(mine(job));
    values_of(model);  // frees everything
    EXPECT_TRUE(at::equal(fresh, model(mine(job)))) << "the forward after the step must not use the old values";
    EXPECT_FALSE(at::equal(fresh, kept));
  });
}

TEST(Forward, GathersAfterAStepAlsoWhereARankHoldsPaddingOnly) {
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Block(1); }, {.seed = 1});
    ASSERT_EQ(flat_units(model).front().unit->layout().range(1).size(), 0);
    auto optimizer = adamw(model);
    const at::Tensor x = at::ones({1, 1});
    model(x).sum().backward();
    const at::Tensor kept = model(x);
    optimizer->step();
    EXPECT_FALSE(at::equal(model(x), kept));
  });
}

TEST(Forward, InsideSummonIsRefused) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    const SummonFullParams whole(model);
    try {
      model(mine(job));
      FAIL() << "it ran";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument);
      EXPECT_THAT(error.what(), ::testing::HasSubstr("SummonFullParams"));
    }
  });
}

TEST(Summon, ShowsWholeParametersAndKeepsWhatIsWrittenToThem) {
  const Values plain = values_of(plain_net());
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards});
      EXPECT_TRUE(identical(values_of(model), plain)) << text_of(spread);
      summon_full_params(model, {}, [&] {
        const at::NoGradGuard no_grad;
        model.module().blocks[1].module().first_bias.fill_(7);
      });
      EXPECT_TRUE(at::equal(values_of(model).at("block1.first_bias"), at::full({net_width}, 7.0)));
    });
  }
}

TEST(Summon, WithoutWritebackForgetsWhatIsWritten) {
  const Values plain = values_of(plain_net());
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    summon_full_params(model, {.writeback = false}, [&] {
      const at::NoGradGuard no_grad;
      model.module().unused.fill_(7);
    });
    EXPECT_TRUE(identical(values_of(model), plain));
  });
}

TEST(Summon, WithoutRecurseLeavesInnerUnitsAlone) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    const SummonFullParams whole(model, {.recurse = false});
    EXPECT_NO_THROW(model.module().unused.sum().item<float>());
    EXPECT_THROW(model.module().blocks[1].module().first_bias.sum().item<float>(), c10::Error);
  });
}

TEST(ReshardedParameter, ThrowsAnErrorThatNamesItWhenItIsRead) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    try {
      model.module().blocks[2].module().first_bias.sum();
      FAIL() << "it was read";
    } catch (const c10::Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("block2.first_bias"));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("SummonFullParams"));
    }
    EXPECT_NO_THROW(loss(model(mine(job))).backward());
  });
}

TEST(ParameterWithOtherMemory, IsFoundBeforeItGivesWrongGradients) {
  run_ranks(2, [&](Job& job) {
    auto model = sharded_net(job);
    model.module().blocks[2].module().first_bias.set_data(at::zeros({net_width}));
    try {
      model(mine(job));
      FAIL() << "it ran";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("block2.first_bias"));
    }
  });
}

TEST(Fsdp, StartsFromRankZerosRandomStateWithoutASeed) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_current_seed(net_seed);
  const Values plain = values_of(Net());
  generator.set_current_seed(net_seed);
  run_ranks(3, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); });
    EXPECT_TRUE(identical(values_of(model), plain));
  });
}

TEST(Fsdp, RefusesRanksThatBuildDifferentModels) {
  std::array<std::string, 2> errors;
  run_ranks(2, [&](Job& job) {
    try {
      fsdp(job,
           [&] {
             Net net;
             const at::NoGradGuard no_grad;
             if (job.rank() == 1) net->unused.zero_();
             return net;
           },
           {.seed = 1});
    } catch (const Error& error) {
      errors[static_cast<size_t>(job.rank())] = error.what();
      EXPECT_EQ(error.code(), Code::mismatch);
    }
  });
  EXPECT_THAT(errors[0], ::testing::AllOf(::testing::HasSubstr("rank 1"), ::testing::HasSubstr("_flat_param")));
  EXPECT_EQ(errors[0], errors[1]);
}

TEST(Fsdp, ThrowsOnEveryRankWhatConstructionThrowsOnOne) {
  std::array<std::string, 3> errors;
  run_ranks(3, [&](Job& job) {
    try {
      fsdp(job, [&] {
        if (job.rank() == 1) throw Error({.code = Code::not_found, .what = "no vocabulary"});
        return Net();
      });
    } catch (const Error& error) {
      errors[static_cast<size_t>(job.rank())] = error.what();
    }
    // The scope that construction was in is closed: wrap() is transparent again.
    EXPECT_FALSE(wrap(Block(2))->unit());
  });
  for (const std::string& error : errors) EXPECT_THAT(error, ::testing::HasSubstr("no vocabulary"));
}

}  // namespace
}  // namespace tessera::testing
