#include "tessera/fsdp/ignore.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <limits>

#include "tessera/fsdp/clip_grad_norm.h"
#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/no_sync.h"
#include "tessera/fsdp/policy.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/tie.h"
#include "tessera/fsdp/unit_counters.h"
#include "tessera/fsdp/unit_list.h"

namespace tessera::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double rounding = 2e-6;  // of float32, after a few steps on values of about 1

std::string error_of(const std::function<void()>& work) {
  const auto outcome = capture(work);
  EXPECT_TRUE(outcome || outcome.fault.code == Code::invalid_argument);
  return outcome ? "" : outcome.fault.what;
}

// One ignored parameter between two that are not; `frozen`: these do not train.
struct LayerImpl : torch::nn::Module {
  explicit LayerImpl(bool frozen) {
    weight = register_parameter("weight", at::randn({6, 6}) * 0.5, !frozen);
    scale = ignore(register_parameter("scale", at::randn({6})));
    bias = register_parameter("bias", at::randn({6}), !frozen);
  }
  at::Tensor forward(const at::Tensor& x) { return x + (x.matmul(weight).tanh() * scale + bias); }
  at::Tensor weight, scale, bias;
};
TORCH_MODULE(Layer);

// A module that is ignored as a whole, as an adapter, and its buffer.
struct AdapterImpl : torch::nn::Module {
  AdapterImpl() {
    down = register_parameter("down", at::randn({6, 2}) * 0.5);
    up = register_parameter("up", at::randn({2, 6}) * 0.5);
    shift = register_buffer("shift", at::ones({6}));
  }
  at::Tensor forward(const at::Tensor& x) { return x + x.to(down.scalar_type()).matmul(down).matmul(up) + shift; }
  at::Tensor down, up, shift;
};
TORCH_MODULE(Adapter);

struct SharesImpl : torch::nn::Module {
  explicit SharesImpl(Adapter shared) : shared(register_module("shared", shared)) {
    in = register_parameter("in", at::randn({6, 6}) * 0.5);
  }
  at::Tensor forward(const at::Tensor& x) { return shared(x.matmul(in)); }
  Adapter shared;
  at::Tensor in;
};
TORCH_MODULE(Shares);

// An ignored module inside a unit and outside it.
struct SharedImpl : torch::nn::Module {
  SharedImpl() {
    shared = register_module("shared", ignore(Adapter()));
    inner = register_module("inner", wrap(Shares(shared)));
    out = register_parameter("out", at::randn({6, 1}));
  }
  at::Tensor forward(const at::Tensor& x) { return shared(inner(x)).matmul(out); }
  Adapter shared = nullptr;
  Wrapped<SharesImpl> inner = nullptr;
  at::Tensor out;
};
TORCH_MODULE(Shared);

TEST(Ignore, AModuleMayBeInAUnitAndOutsideIt) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Shared(); }, {.seed = 1});
    model(at::ones({3, 6})).sum().backward();
    std::map<std::string, std::vector<std::string>> names;
    for (const NamedParameter& parameter : named_parameters(model)) names[parameter.name] = parameter.aliases;
    EXPECT_EQ(names, (std::map<std::string, std::vector<std::string>>{
                         {"out", {}}, {"shared.down", {"inner.shared.down"}}, {"shared.up", {"inner.shared.up"}}, {"inner.in", {}}}));
    EXPECT_TRUE(model->module().shared->up.grad().defined());
  });
}

struct AdaptedImpl : torch::nn::Module {
  explicit AdaptedImpl(bool frozen = false) {
    in = register_parameter("in", at::randn({4, 6}) * 0.5, !frozen);
    for (int i = 0; i < 2; ++i) layers.push_back(register_module("layer" + std::to_string(i), wrap(Layer(frozen))));
    adapter = register_module("adapter", ignore(Adapter()));
    gain = ignore(register_parameter("gain", at::randn({})));
    again = register_parameter("again", gain);  // one tensor under two names
    table = register_buffer("table", at::ones({6}));
    frozen_gain = ignore(register_parameter("frozen_gain", at::randn({6}), /*requires_grad=*/false));
  }
  at::Tensor forward(at::Tensor x) {
    x = x.matmul(in);
    for (auto& layer : layers) x = layer(x) * gain;
    return adapter(x) * again * table * frozen_gain;
  }
  at::Tensor in, gain, again, table, frozen_gain;
  std::vector<Wrapped<LayerImpl>> layers;
  Adapter adapter = nullptr;
};
TORCH_MODULE(Adapted);

Adapted plain_adapted(bool frozen = false) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_current_seed(net_seed);
  return Adapted(frozen);
}
Wrapped<AdaptedImpl> sharded_adapted(const Job& job, FsdpOptions options = {}, bool frozen = false) {
  options.seed = net_seed;
  return fsdp(job, [&] { return Adapted(frozen); }, options);
}

at::Tensor mine(const Job& job, int step = 0) { return rows_of(batch(step, batch_rows), job.rank(), job.size()); }

void average_ignored(const Job& job, ModuleRef model) {
  for (const NamedParameter& parameter : parameters_outside_units(model)) {
    if (parameter.tensor.grad().defined()) job.collectives().all_reduce(parameter.tensor.grad(), Reduce::mean)->wait();
  }
}

std::vector<std::string> names_of(const std::vector<NamedParameter>& parameters) {
  std::vector<std::string> names;
  for (const NamedParameter& parameter : parameters) names.push_back(parameter.name);
  return names;
}

TEST(Ignore, DoesNothingOutsideAScope) {
  const at::Tensor tensor = at::zeros({2});
  EXPECT_EQ(ignore(tensor).unsafeGetTensorImpl(), tensor.unsafeGetTensorImpl());
  Adapter adapter;
  EXPECT_EQ(ignore(adapter).get(), adapter.get());
  EXPECT_EQ(ignore(adapter.ptr()), adapter.ptr());
  EXPECT_EQ(ignore(at::Tensor()).defined(), false);
}

TEST(Ignore, LeavesParametersToTheirModulesUnderTheirNamesInTheirOrder) {
  const auto plain = named_parameters(plain_adapted());
  run_ranks(2, [&](Job& job) {
    auto model = sharded_adapted(job);
    const auto parameters = named_parameters(model);
    EXPECT_EQ(names_of(parameters), names_of(plain));
    EXPECT_THAT(names_of(parameters_outside_units(model)),
                ElementsAre("gain", "frozen_gain", "layer0.scale", "layer1.scale", "adapter.down", "adapter.up"));
    EXPECT_THAT(parameters[1].aliases, ElementsAre("again"));
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_EQ(parameters[i].aliases, plain[i].aliases);
      EXPECT_TRUE(parameters[i].unit || at::equal(parameters[i].tensor, plain[i].tensor)) << parameters[i].name;
    }
    EXPECT_EQ(flat_units(model).at(1).unit->layout().numel, 42) << "6 x 6 and 6, without the scale";
    EXPECT_EQ(model->parameters().size(), 3u + 7u) << "three shards, and what is ignored, one tensor of it twice";
  });
}

TEST(Ignore, TrainsAsOneProcessDoesWhereGradientsAreAveragedByHand) {
  for (const bool frozen : {false, true}) {
    Adapted plain = plain_adapted(frozen);
    const auto alone = adamw(plain);
    for (int step = 0; step < 4; ++step) {
      loss(plain(batch(step, batch_rows))).backward();
      alone->step();
      alone->zero_grad();
    }
    const Values expected = values_of(plain);
    for (const Spread& spread : spreads()) {
      run_ranks(spread.ranks, [&](Job& job) {
        const bool recompute = spread.ranks % 2 == 0;
        auto model = sharded_adapted(job, {.strategy = spread.strategy, .shards = spread.shards, .recompute = recompute}, frozen);
        const auto optimizer = adamw(model);
        for (int step = 0; step < 4; ++step) {
          loss(model(mine(job, step))).backward();
          average_ignored(job, model);
          optimizer->step();
          optimizer->zero_grad();
        }
        EXPECT_LE(difference(values_of(model), expected), rounding) << text_of(spread) << ", frozen: " << frozen;
        EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
      });
    }
  }
}

TEST(Ignore, LeavesEachRankItsOwnGradients) {
  for (const bool quiet : {false, true}) {
    run_ranks(3, [&](Job& job) {
      auto model = sharded_adapted(job);
      if (quiet) {
        const NoSync no_sync(model);
        loss(model(mine(job))).backward();
      } else {
        loss(model(mine(job))).backward();
      }
      // Another model's run here, in turn: the default generator is one for all ranks.
      job.in_turn([&] {
        Adapted plain = plain_adapted();
        loss(plain(mine(job))).backward();
        EXPECT_LE((model.module().gain.grad() - plain->gain.grad()).abs().item<double>(), 1e-5 * plain->gain.grad().abs().item<double>());
        EXPECT_LE((model.module().adapter->up.grad() - plain->adapter->up.grad()).abs().max().item<double>(), 1e-4);
      });
    });
  }
}

TEST(Ignore, KeepsTheDtypeOfParametersAndBuffers) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_adapted(job, {.mixed_precision = {.param_dtype = at::kBFloat16, .buffer_dtype = at::kBFloat16}});
    EXPECT_EQ(model.module().adapter->shift.scalar_type(), at::kFloat);
    EXPECT_EQ(model.module().table.scalar_type(), at::kBFloat16);
    for (const NamedParameter& parameter : parameters_outside_units(model)) {
      EXPECT_EQ(parameter.tensor.scalar_type(), at::kFloat) << parameter.name;
    }
    // Promotion makes float32 of what the adapter and the scales touch; the next unit takes bfloat16 again.
    loss(model(mine(job))).backward();
    EXPECT_EQ(model.module().layers[0].module().scale.grad().scalar_type(), at::kFloat);
  });
}

TEST(Ignore, IsForgottenByNobodyWhereAWrapIsTransparent) {
  run_ranks(2, [](Job& job) {
    int64_t seen = 0;
    const auto none = [&](const WrapCandidate& candidate) {
      seen = candidate.numel;
      return false;
    };
    auto model = sharded_adapted(job, {.policy = none});
    EXPECT_EQ(seen, 42) << "policies do not count what is ignored";
    ASSERT_EQ(flat_units(model).size(), 1u);
    EXPECT_EQ(flat_units(model)[0].unit->layout().numel, 24 + 2 * 42);
    const EnableWrap scope(job);
    EXPECT_EQ(wrap(ignore(Adapter()))->unit(), nullptr) << "nothing is left to take";
  });
}

TEST(Ignore, MayLeaveNothingToTheRoot) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return ignore(torch::nn::Linear(3, 2)); }, {.seed = 1});
    EXPECT_TRUE(flat_units(model).empty());
    model(at::ones({1, 3}) * (job.rank() + 1)).sum().backward();
    EXPECT_EQ(model.module().weight.grad()[0][0].item<float>(), job.rank() + 1);
    EXPECT_EQ(clip_grad_norm_(model, 100), std::sqrt(6 * 4 + 2.0)) << "that of the rank with the longest";
  });
}

TEST(Ignore, FromOutsideTakesWhatNoInnerUnitHas) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job,
                      [] {
                        Net net;
                        ignore(net->unused);
                        return net;
                      },
                      {.seed = net_seed});
    EXPECT_THAT(names_of(parameters_outside_units(model)), ElementsAre("unused"));
    EXPECT_NO_THROW(loss(model(mine(job))).backward());
    EXPECT_FALSE(model.module().unused.grad().defined()) << "as in one process, not zeros";
  });
}

TEST(Ignore, IsRefusedOnceAUnitHasTheParameter) {
  run_ranks(2, [](Job& job) {
    const EnableWrap scope(job);
    auto block = wrap(Block(3));
    EXPECT_THAT(error_of([&] { ignore(block); }), HasSubstr("the module belongs to a unit"));
    EXPECT_THAT(error_of([&] { ignore_all_of(block.module()); }), HasSubstr("the module belongs to a unit"));
    EXPECT_THAT(error_of([&] { ignore(block.module().first_bias); }), HasSubstr("a parameter belongs to a unit"));
    EXPECT_THAT(error_of([&] { ignore(Net()); }), HasSubstr("module block0 belongs to a unit"));
    // A plain module that shares a parameter with a unit.
    struct SharesImpl : torch::nn::Module {
      explicit SharesImpl(const at::Tensor& taken) { register_parameter("shared", taken); }
    };
    EXPECT_THAT(error_of([&] { ignore(std::make_shared<SharesImpl>(block.module().first_bias)); }),
                HasSubstr("parameter shared belongs to a unit"));
  });
}

TEST(Ignore, HoldsForEveryUnitThatATiedParameterLiesIn) {
  struct TiedImpl : torch::nn::Module {
    TiedImpl() {
      torch::nn::Linear first(3, 3), second(3, 3);
      tie(second, second->weight, first->weight);
      ignore(first->weight);
      a = register_module("a", wrap(first));
      b = register_module("b", wrap(second));
    }
    at::Tensor forward(const at::Tensor& x) { return b(a(x)); }
    Wrapped<torch::nn::LinearImpl> a = nullptr, b = nullptr;
  };
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return std::make_shared<TiedImpl>(); }, {.seed = 1});
    ASSERT_THAT(names_of(parameters_outside_units(model)), ElementsAre("a.weight"));
    EXPECT_THAT(parameters_outside_units(model)[0].aliases, ElementsAre("b.weight"));
    model(at::ones({1, 3})).sum().backward();
    EXPECT_TRUE(parameters_outside_units(model)[0].tensor.grad().defined());
  });
}

// A parameter that is ignored, of a size and values of the rank's own, beside one that is not.
struct OwnImpl : torch::nn::Module {
  OwnImpl(int64_t size, double value, bool trainable) {
    register_parameter("weight", at::ones({3}));
    own = ignore(register_parameter("own", at::full({size}, value), trainable));
  }
  at::Tensor forward(const at::Tensor& x) { return x; }
  at::Tensor own;
};
TORCH_MODULE(Own);

TEST(Ignore, IsTheSameOnAllRanksOrAnErrorButForValues) {
  run_ranks(2, [](Job& job) {
    const auto build = [&](int64_t size, double value, bool trainable) {
      return fsdp(job, [&] { return Own(size, value, trainable); }, {.seed = 1}).module().own;
    };
    EXPECT_EQ(build(3, job.rank(), true)[0].item<float>(), job.rank()) << "values may differ";
    const auto of_sizes = capture([&] { build(3 + job.rank(), 1, true); });
    EXPECT_EQ(of_sizes.fault.code, Code::mismatch);
    EXPECT_THAT(of_sizes.fault.what, HasSubstr("ignored parameter that differs is own"));
    EXPECT_EQ(capture([&] { build(3, 1, job.rank() == 0); }).fault.code, Code::mismatch);
  });
}

TEST(ClipGradNorm, OfIgnoredParametersIsThatOfOneRankAndTheSameOnAll) {
  for (const double p : {1.0, 2.0, 3.0, std::numeric_limits<double>::infinity()}) {
    run_ranks(3, [&](Job& job) {
      auto model = sharded_adapted(job);
      for (const NamedFlatUnit& named : flat_units(model))
        named.unit->shard().mutable_grad() = at::zeros({named.unit->layout().shard_numel});
      const auto clip_with = [&](double gradient) {
        model.module().frozen_gain.mutable_grad() = at::full({6}, gradient);
        return clip_grad_norm_(model, 1e9, {.norm_type = p});
      };
      const double six = std::isinf(p) ? 1 : std::pow(6, 1 / p);
      EXPECT_NEAR(clip_with(2), 2 * six, 1e-12) << "what is alike counts once";
      EXPECT_NEAR(clip_with(job.rank() == 1 ? 5 : 2), 5 * six, 1e-12) << "all ranks scale alike";
      EXPECT_TRUE(std::isnan(clip_with(job.rank() == 1 ? std::numeric_limits<double>::quiet_NaN() : 2)));
    });
  }
}

TEST(Summon, LeavesWhatIsIgnoredAlone) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_adapted(job);
    {
      const SummonFullParams whole(model, {.writeback = false, .rank0_only = true});
      const at::NoGradGuard no_grad;
      model.module().adapter->up.fill_(7);
    }
    EXPECT_EQ(model.module().adapter->up.min().item<float>(), 7) << "on every rank, and there is nothing to write back";
  });
}

TEST(UnitList, ListsWhatIsIgnored) {
  run_ranks(2, [](Job& job) {
    auto model = sharded_adapted(job);
    EXPECT_THAT(describe_units(model), AllOf(HasSubstr("outside units"), HasSubstr("43 elements"), HasSubstr("  layer1.scale\n"),
                                             HasSubstr("3 units, 108 elements")));
    EXPECT_THAT(memory_summary(model), HasSubstr("outside units"));
    EXPECT_THAT(describe_units(sharded_net(job)), Not(HasSubstr("outside units")));
  });
}

}  // namespace
}  // namespace tessera::testing
