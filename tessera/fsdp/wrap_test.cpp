#include "tessera/fsdp/wrap.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/common.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/tie.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/unit_counters.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class Work>
std::string error_of(Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> keys(ModuleRef module) {
  std::vector<std::string> keys;
  for (const NamedFlatUnit& unit : flat_units(module)) keys.push_back(unit.key);
  return keys;
}

TEST(Wrap, IsTransparentOutsideAScope) {
  Wrapped<BlockImpl> block = wrap(Block(3));
  EXPECT_FALSE(block->unit());
  EXPECT_EQ(block->parameters().size(), 4u);
  const at::Tensor x = at::ones({2, 3});
  EXPECT_TRUE(at::equal(block(x), block.module().forward(x)));
  EXPECT_TRUE(flat_units(block).empty());
}

TEST(Wrap, InAScopeLeavesOneFlatLeaf) {
  run_ranks(2, [](Job& job) {
    const EnableWrap scope(job);
    auto block = wrap(Block(3));
    const auto leaves = block->named_parameters();
    ASSERT_EQ(leaves.size(), 1u);
    EXPECT_EQ(leaves[0].key(), "_flat_param");
    EXPECT_TRUE(leaves[0].value().is_leaf());
    EXPECT_EQ(leaves[0].value().numel(), 12) << "24 elements on 2 ranks";
  });
}

TEST(Wrap, NestedScopesChangeOptionsAndEndWithTheirBlock) {
  run_ranks(2, [](Job& job) {
    const auto strategy = [] { return wrap(Block(2))->unit()->units().front()->strategy(); };
    const EnableWrap outer(job, {.strategy = Strategy::shard_grad_op, .alignment_bytes = 1});
    {
      const EnableWrap inner(WrapOverrides{.strategy = Strategy::no_shard});
      EXPECT_EQ(strategy(), Strategy::no_shard);
    }
    EXPECT_EQ(strategy(), Strategy::shard_grad_op);
    EXPECT_EQ(wrap(Block(2), {.strategy = Strategy::full_shard})->unit()->units().front()->strategy(), Strategy::full_shard);
    EXPECT_EQ(wrap(Block(1))->unit()->units().front()->layout().alignment, 1);
    try {
      const EnableWrap inner(WrapOverrides{.strategy = Strategy::no_shard});
      throw std::domain_error("no");
    } catch (const std::domain_error&) {
    }
    EXPECT_EQ(strategy(), Strategy::shard_grad_op) << "after a throw as well";
  });
  EXPECT_FALSE(wrap(Block(2))->unit());
  EXPECT_THAT(error_of([] { const EnableWrap scope(WrapOverrides{}); }), HasSubstr("outside any scope"));
}

TEST(FsdpOptions, ReachTheWrapScopeOneByOne) {
  const MixedPrecision mixed{.param_dtype = at::kHalf};
  const FsdpOptions given{.seed = 1,
                          .strategy = Strategy::hybrid_shard,
                          .shards = 2,
                          .alignment_bytes = 3,
                          .min_numel = 4,
                          .policy = [](const WrapCandidate& candidate) { return candidate.numel == 5; },
                          .keep_whole_below = 6,
                          .prefetch = 7,
                          .mixed_precision = mixed,
                          .gradient_divisor = 8,
                          .recompute = true,
                          .device = at::Device(at::kCPU, 0)};
  const WrapOptions scope = given.wrap();
  EXPECT_EQ(scope.strategy, Strategy::hybrid_shard);
  EXPECT_EQ(scope.shards, 2);
  EXPECT_EQ(scope.alignment_bytes, 3);
  EXPECT_EQ(scope.min_numel, 4);
  torch::nn::Identity module;
  ASSERT_TRUE(scope.policy);
  EXPECT_TRUE(scope.policy({*module, "", 5}));
  EXPECT_EQ(scope.keep_whole_below, 6);
  EXPECT_EQ(scope.prefetch, 7);
  EXPECT_EQ(scope.mixed_precision, mixed);
  EXPECT_EQ(scope.gradient_divisor, 8);
  EXPECT_TRUE(scope.recompute);
  EXPECT_EQ(scope.device, at::Device(at::kCPU, 0));
}

TEST(Wrap, LeavesASmallModuleToTheUnitAroundIt) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1, .min_numel = 30});
    // Blocks have 84 elements, the idle one 12.
    EXPECT_THAT(keys(model), ElementsAre("_flat_param", "block0._flat_param", "block1._flat_param", "block2._flat_param"));
    const auto names = flat_units(model).front().parameters;
    EXPECT_EQ(names.back().name, "idle.second_bias");
  });
}

torch::nn::Sequential nested_sequential() {
  const torch::nn::Sequential inner(wrap(torch::nn::Linear(3, 3)), torch::nn::Tanh());
  return torch::nn::Sequential(wrap(inner), wrap(Block(3)));
}

TEST(Wrap, WorksAsAnElementOfSequentialAndAroundOne) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_current_seed(5);
  torch::nn::Sequential plain = nested_sequential();
  const at::Tensor x = at::randn({2, 3});
  const at::Tensor expected = plain->forward(x);
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, nested_sequential, {.seed = 5});
    // The inner Sequential has no parameters of its own, and so no flat unit; nor has the outer one.
    EXPECT_THAT(keys(model), ElementsAre("0.0._flat_param", "1._flat_param"));
    const at::Tensor y = model(x);
    EXPECT_TRUE(at::equal(y, expected));
    y.sum().backward();
    for (const NamedFlatUnit& unit : flat_units(model)) EXPECT_TRUE(unit.unit->shard().grad().defined());
  });
}

struct ManyForwardsImpl : torch::nn::Module {
  ManyForwardsImpl() { weight = register_parameter("weight", at::ones({3})); }
  at::Tensor forward(const at::Tensor& x) { return x * weight; }
  std::tuple<at::Tensor, std::vector<at::Tensor>> forward(const at::Tensor& x, int times, double by = 2.0) const {
    return {x * weight * by, std::vector<at::Tensor>(static_cast<size_t>(times), x + weight)};
  }
  at::Tensor weight;
};
TORCH_MODULE(ManyForwards);

TEST(Wrap, ReachesOverloadsDefaultArgumentsAndTensorsInContainers) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return ManyForwards(); }, {.seed = 1});
    const at::Tensor x = at::ones({3});
    EXPECT_TRUE(at::equal(model(x), x));
    const auto [scaled, shifted] = model(x, 2);
    EXPECT_TRUE(at::equal(scaled, x * 2));
    ASSERT_EQ(shifted.size(), 2u);
    shifted[1].sum().backward();
    const auto unit = flat_units(model).front().unit;
    EXPECT_TRUE(at::equal(unit->shard_part(0), at::ones({unit->layout().part(job.rank(), 0).size()})));
    EXPECT_TRUE(unit->shard().grad().defined());
  });
}

struct DefaultsImpl : torch::nn::Module {
  DefaultsImpl() { weight = register_parameter("weight", at::ones({2})); }
  at::Tensor forward(at::Tensor x, double by = 3.0) { return x * weight * by; }
  at::Tensor weight;

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(3.0)})
};
TORCH_MODULE(Defaults);

TEST(Wrap, KeepsDefaultArgumentsInSequential) {
  run_ranks(2, [](Job& job) {
    const EnableWrap scope(job);
    torch::nn::Sequential sequence(wrap(Defaults()));
    EXPECT_TRUE(at::equal(sequence->forward(at::ones({2})), at::ones({2}) * 3));
  });
}

TEST(Wrap, TakesALibraryModuleWithADefaultStateAndNestedOutputs) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return torch::nn::LSTM(3, 4); }, {.seed = 4});
    const auto [output, state] = model(at::ones({2, 1, 3}));
    EXPECT_EQ(std::get<0>(state).size(2), 4);
    (output.sum() + std::get<1>(state).sum()).backward();
    EXPECT_GT(flat_units(model).front().unit->shard().grad().abs().sum().item<float>(), 0);
  });
}

struct ViewedImpl : torch::nn::Module {
  explicit ViewedImpl(const at::Tensor& base) {
    scale = register_parameter("scale", at::ones({3}));
    weight = register_parameter("weight", base.t());
  }
  at::Tensor forward(const at::Tensor& x) { return x.matmul(weight) * scale; }
  at::Tensor scale, weight;
};
TORCH_MODULE(Viewed);

TEST(Wrap, OfAParameterThatWasAViewKeepsNothingOfItsBase) {
  run_ranks(2, [](Job& job) {
    c10::weak_intrusive_ptr<c10::StorageImpl> memory(at::ones({1}).storage().getWeakStorageImpl());
    auto model = fsdp(job,
                      [&] {
                        const at::Tensor base = at::ones({3, 2});
                        memory = base.storage().getWeakStorageImpl();
                        return Viewed(base);
                      },
                      {.seed = 1});
    EXPECT_TRUE(memory.expired()) << "each rank would have all of it";
    for (int step = 0; step < 2; ++step) {
      model(at::ones({1, 2})).sum().backward();
      const at::NoGradGuard no_grad;
      summon_full_params(model, {}, [&] { model.module().weight.mul_(2); });
    }
    EXPECT_TRUE(at::equal(gradients_of(model).at("scale"), at::full({3}, 2.0f + 4.0f)));
    EXPECT_TRUE(at::equal(gradients_of(model).at("weight"), at::ones({2, 3}) * 2));
  });
}

TEST(Wrap, WithoutARootFreesEachUnitAfterItsForward) {
  run_ranks(2, [](Job& job) {
    const EnableWrap scope(job);
    torch::nn::Sequential blocks(wrap(Block(3)), wrap(Block(3)));
    for (int step = 0; step < 2; ++step) {
      const at::Tensor y = blocks->forward(at::ones({1, 3}));
      EXPECT_EQ(unit_counters(blocks).parameter_bytes, 0);
      y.sum().backward();
      EXPECT_EQ(unit_counters(blocks).parameter_bytes, 0);
    }
    EXPECT_EQ(unit_counters(blocks).reductions, 4);
  });
}

struct PairImpl : torch::nn::Module {
  explicit PairImpl(bool wrap_parts, bool tied) {
    first = torch::nn::Linear(3, 3);
    second = torch::nn::Linear(torch::nn::LinearOptions(3, 3).bias(false));
    if (tied) tie(second, second->weight, first->weight);
    if (wrap_parts) {
      register_module("first", wrap(first));
      register_module("second", wrap(second));
    } else {
      register_module("first", first);
      register_module("second", second);
    }
  }
  at::Tensor forward(at::Tensor x) { return second(first(x)); }
  torch::nn::Linear first = nullptr, second = nullptr;
};
TORCH_MODULE(Pair);

TEST(Tie, MakesOneParameterWithTwoNames) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Pair(false, true); }, {.seed = 3});
    const auto parameters = named_parameters(model);
    ASSERT_EQ(parameters.size(), 2u);
    EXPECT_EQ(parameters[0].name, "first.weight");
    EXPECT_THAT(parameters[0].aliases, ElementsAre("second.weight"));
    EXPECT_EQ(parameters[0].unit->layout().numel, 12);
    EXPECT_EQ(model.module().second->weight.unsafeGetTensorImpl(), model.module().first->weight.unsafeGetTensorImpl());
    EXPECT_NO_THROW(model(at::ones({1, 3})).sum().backward());
  });
}

TEST(Tie, AcrossUnitsIsRefusedByName) {
  run_ranks(2, [](Job& job) {
    const EnableWrap scope(job);
    EXPECT_THAT(error_of([] { Pair(true, true); }), HasSubstr("parameter weight belongs to an inner unit already"));
    struct OuterImpl : torch::nn::Module {
      OuterImpl() {
        const torch::nn::Linear inner(2, 2);
        register_module("inner", wrap(inner));
        again = register_parameter("again", inner->weight);
      }
      at::Tensor forward(at::Tensor x) { return x; }
      at::Tensor again;
    };
    EXPECT_THAT(error_of([] { wrap(std::make_shared<OuterImpl>()); }), HasSubstr("parameter again belongs to an inner unit"));
  });
}

TEST(Tie, RefusesWhatIsNoParameterOrHasAnotherShape) {
  torch::nn::Linear a(2, 3), b(3, 3);
  at::Tensor stranger = at::zeros({2, 3});
  EXPECT_THAT(error_of([&] { tie(a, stranger, b->weight); }), HasSubstr("no such parameter"));
  EXPECT_THAT(error_of([&] { tie(a, a->weight, b->weight); }), HasSubstr("differ in shape"));
}

TEST(Wrapped, RefusesToMoveOrToBeCloned) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Block(2); }, {.seed = 1});
    EXPECT_THAT(error_of([&] { model->to(torch::kDouble); }), HasSubstr("before wrapping"));
    EXPECT_THAT(error_of([&] { model->clone(); }), HasSubstr("clone()"));
  });
  auto transparent = wrap(Block(2));
  transparent->to(torch::kDouble);
  EXPECT_EQ(transparent.module().first_bias.scalar_type(), at::kDouble);
}

struct MixedImpl : torch::nn::Module {
  MixedImpl() {
    base = register_parameter("base", at::randn({3, 3}), /*requires_grad=*/false);
    adapter = register_parameter("adapter", at::randn({3, 3}));
    wide = register_parameter("wide", at::randn({3}, at::kDouble));
    table = register_parameter("table", at::ones({4}, at::kLong), /*requires_grad=*/false);
    bias = register_parameter("bias", at::randn({3}));
  }
  at::Tensor forward(at::Tensor x) { return x.matmul(base) + x.matmul(adapter) + bias + (wide * wide).sum() + table.sum(); }
  at::Tensor base, adapter, wide, table, bias;
};
TORCH_MODULE(Mixed);

TEST(FlatUnits, AreOneForEachDtypeAndForWhatIsFrozen) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Mixed(); }, {.seed = 2});
    EXPECT_THAT(keys(model), ElementsAre("_flat_param", "_flat_param_float32", "_flat_param_float64", "_flat_param_int64_frozen"));
    const auto units = flat_units(model);
    EXPECT_FALSE(units[0].unit->trainable()) << "the first parameter is frozen";
    ASSERT_EQ(units[1].parameters.size(), 2u);
    EXPECT_EQ(units[1].parameters[1].name, "bias");
    std::vector<std::string> names;
    for (const NamedParameter& parameter : named_parameters(model)) names.push_back(parameter.name);
    EXPECT_THAT(names, ElementsAre("base", "adapter", "wide", "table", "bias")) << "in the order of registration all the same";
  });
}

TEST(FlatUnits, TrainWhatIsTrainableAndLeaveTheRest) {
  Values expected;
  at::Tensor input = at::randn({4, 3});
  {
    Mixed plain;
    run_ranks(1, [&](Job& job) {
      auto model = fsdp(job, [] { return Mixed(); }, {.seed = 2});
      const Values start = values_of(model);
      const at::NoGradGuard no_grad;
      for (auto& parameter : plain->named_parameters()) parameter.value().copy_(start.at(parameter.key()));
    });
    SGD optimizer(plain, {.lr = 0.1});
    plain(input).square().sum().backward();
    optimizer.step();
    expected = values_of(plain);
  }
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Mixed(); }, {.seed = 2});
    SGD optimizer(model, {.lr = 0.1});
    model(input).square().sum().backward();  // the same on both ranks: so is the mean
    EXPECT_EQ(unit_counters(model).parameter_bytes, 0);
    optimizer.step();
    const Values trained = values_of(model);
    for (const auto& [name, value] : expected) EXPECT_TRUE(at::allclose(trained.at(name), value)) << name;
  });
}

TEST(NamedParameters, AreThoseOfThePlainModel) {
  std::vector<std::string> plain;
  for (const NamedParameter& parameter : named_parameters(plain_net())) plain.push_back(parameter.name);
  EXPECT_EQ(plain.front(), "in");
  EXPECT_EQ(plain.back(), "idle.second_bias");
  run_ranks(3, [&](Job& job) {
    auto model = sharded_net(job);
    std::vector<std::string> names;
    for (const NamedParameter& parameter : named_parameters(model)) {
      names.push_back(parameter.name);
      EXPECT_EQ(parameter.unit->parameter(parameter.index).unsafeGetTensorImpl(), parameter.tensor.unsafeGetTensorImpl());
    }
    EXPECT_EQ(names, plain);
    EXPECT_THAT(keys(model),
                ElementsAre("_flat_param", "block0._flat_param", "block1._flat_param", "block2._flat_param", "idle._flat_param"));
    EXPECT_EQ(flat_units(model)[2].unit->module_path(), "block1");
  });
}

TEST(NamedParameters, OfASharedModuleHaveAliases) {
  run_ranks(2, [](Job& job) {
    struct TwiceImpl : torch::nn::Module {
      TwiceImpl() {
        const auto block = wrap(Block(2));
        register_module("a", block);
        register_module("b", block);
        count = register_buffer("count", at::zeros({1}));
      }
      at::Tensor forward(at::Tensor x) { return x; }
      at::Tensor count;
    };
    auto model = fsdp(job, [] { return std::make_shared<TwiceImpl>(); }, {.seed = 1});
    const auto units = flat_units(model);
    ASSERT_EQ(units.size(), 1u);
    EXPECT_EQ(units[0].key, "a._flat_param");
    EXPECT_THAT(units[0].aliases, ElementsAre("b._flat_param"));
    EXPECT_THAT(units[0].parameters[0].aliases, ElementsAre("b.first_weight"));
    EXPECT_EQ(named_parameters(model).size(), 4u);
    EXPECT_THAT(named_parameters(model)[0].aliases, ElementsAre("b.first_weight"));
    ASSERT_EQ(named_buffers(model).size(), 1u);
    EXPECT_EQ(named_buffers(model)[0].name, "count");
  });
}

}  // namespace
}  // namespace tessera::testing
