// What is another thing where units are not in host memory. (features_test.cpp trains there.)
#include <ATen/Context.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <c10/core/DeviceGuard.h>
#include <gtest/gtest.h>

#include "tessera/fsdp/recompute.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/traversal.h"
#include "tests/support/late_device.h"

namespace tessera::testing {
namespace {

at::TensorOptions on(at::Device device) { return {device}; }

Wrapped<NetImpl> net_on_device(const Job& job, const Spread& spread, const MixedPrecision& mixed = {}) {
  return sharded_net(job, {.seed = net_seed,
                           .strategy = spread.strategy,
                           .shards = spread.shards,
                           .mixed_precision = mixed,
                           .device = late_device(job.rank())});
}
at::Tensor rows_on_device(const Job& job) { return rows_of(batch(0, batch_rows), job.rank(), job.size()).to(late_device(job.rank())); }

TEST(Device, HoldsShardsGradientsAndWholeParameters) {
  run_ranks(2, [](Job& job) {
    auto model = net_on_device(job, {2, Strategy::full_shard, 0});
    loss(model(rows_on_device(job))).backward();
    for (const NamedFlatUnit& named : flat_units(model)) {
      EXPECT_EQ(named.unit->shard().device(), late_device(job.rank()));
      if (named.unit->shard().grad().defined()) EXPECT_EQ(named.unit->shard().grad().device(), late_device(job.rank()));
    }
    const SummonFullParams whole(model);
    EXPECT_EQ(model.module().in.device(), late_device(job.rank()));
  });
}

TEST(Device, WithoutANumberIsTheCurrentOne) {
  run_ranks(1, [](Job& job) {
    const c10::DeviceGuard here(late_device(3));
    auto model = sharded_net(job, {.seed = net_seed, .device = at::Device(late_device().type())});
    for (const NamedFlatUnit& named : flat_units(model)) EXPECT_EQ(named.unit->shard().device(), late_device(3));
    EXPECT_EQ(loss(model(batch(0, 2).to(late_device(3)))).device(), late_device(3));
  });
}

TEST(Device, IsNotSharedByThreads) {
  try {
    run_ranks(3, [](Job& job) { sharded_net(job, {.seed = net_seed, .device = late_device(job.rank() / 2)}); });
    FAIL() << "shared";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_NE(error.fault().what.find("ranks 0 and 1, threads of one process, are both on hpu:0"), std::string::npos) << error.fault().what;
  }
}

TEST(Device, ASummonShowsItsParametersInHostMemoryAndTakesThemBack) {
  const Values built = values_of(plain_net());
  for (const Spread& spread : spreads()) {
    for (const MixedPrecision& mixed : {MixedPrecision{}, MixedPrecision{.param_dtype = at::kBFloat16}}) {
      run_ranks(spread.ranks, [&](Job& job) {
        auto model = net_on_device(job, spread, mixed);
        {
          const SummonFullParams whole(model, {.offload_to_cpu = true});
          const at::NoGradGuard no_grad;
          EXPECT_TRUE(model.module().in.is_cpu());
          EXPECT_TRUE(at::equal(model.module().in, built.at("in")));
          model.module().in.add_(1);
          model.module().blocks[1].module().first_weight.fill_(7);
        }
        loss(model(rows_on_device(job))).backward();  // as before: on the device
        const SummonFullParams whole(model, {.writeback = false});
        EXPECT_EQ(model.module().in.device(), late_device(job.rank())) << text_of(spread);
        EXPECT_TRUE(at::equal(model.module().in.cpu(), built.at("in") + 1)) << text_of(spread);
        EXPECT_EQ(model.module().blocks[1].module().first_weight.min().item<float>(), 7) << text_of(spread);
      });
    }
  }
}

TEST(Device, ASummonWithoutWritebackForgetsWhatWasWrittenInHostMemory) {
  const Values built = values_of(plain_net());
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto model = net_on_device(job, spread);
      {
        const SummonFullParams whole(model, {.writeback = false, .offload_to_cpu = true});
        const at::NoGradGuard no_grad;
        model.module().in.add_(1);
      }
      const SummonFullParams whole(model, {.writeback = false});
      EXPECT_TRUE(at::equal(model.module().in.cpu(), built.at("in"))) << text_of(spread);
    });
  }
}

TEST(Device, ASummonShowsGradientsInHostMemoryToo) {
  for (const Spread& spread : spreads()) {
    run_ranks(spread.ranks, [&](Job& job) {
      auto model = net_on_device(job, spread);
      loss(model(rows_on_device(job))).backward();
      const auto gradient = [&] { return model.module().blocks[1].module().first_weight.mutable_grad(); };
      at::Tensor there;
      {
        const SummonFullParams whole(model, {.writeback = false, .with_grads = true});
        there = gradient().cpu();
      }
      {
        const SummonFullParams whole(model, {.offload_to_cpu = true, .with_grads = true});
        EXPECT_TRUE(gradient().is_cpu());
        EXPECT_TRUE(at::equal(gradient(), there)) << text_of(spread);
        gradient().fill_(7);
      }
      const SummonFullParams whole(model, {.writeback = false, .with_grads = true});
      EXPECT_EQ(gradient().device(), late_device(job.rank()));
      EXPECT_EQ(gradient().min().item<float>(), 7) << text_of(spread);
    });
  }
}

TEST(Device, ASummonOffloadedOfTheFirstRankAlone) {
  run_ranks(3, [&](Job& job) {
    auto model = net_on_device(job, {3, Strategy::full_shard, 0});
    const SummonFullParams whole(model, {.writeback = false, .rank0_only = true, .offload_to_cpu = true});
    EXPECT_EQ(model.module().in.is_cpu(), job.rank() == 0);
  });
}

TEST(Device, RunsForwardAgainWithTheRandomNumbersOfItsOwnGenerator) {
  const at::Device device = late_device(1);
  const at::Tensor weight = at::ones({8, 8}, on(device)).set_requires_grad(true);
  const at::Tensor x = at::ones({4, 8}, on(device)).set_requires_grad(true);
  const auto forward = [&](const at::Tensor& input) { return at::dropout(input.matmul(weight), 0.5, /*train=*/true).tanh(); };
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const at::Tensor state = generator.get_state();
  const at::Tensor straight = forward(x);
  straight.sum().backward();
  const at::Tensor of_weight = weight.grad().cpu();
  weight.mutable_grad() = at::Tensor();
  generator.set_state(state);
  const at::Tensor again = recompute(forward, x);
  EXPECT_TRUE(at::equal(again.cpu(), straight.cpu()));
  at::dropout(x, 0.5, /*train=*/true);  // draws
  const at::Tensor between = generator.get_state();
  again.sum().backward();
  EXPECT_TRUE(at::equal(weight.grad().cpu(), of_weight));
  EXPECT_TRUE(at::equal(generator.get_state(), between)) << "as if nothing had been drawn again";
}

}  // namespace
}  // namespace tessera::testing
