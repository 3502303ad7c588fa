// What a training job puts into one state, saved by some ranks and loaded by others.
#include "tessera/libtorch/state.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/sgd.h>

#include "tessera/checkpoint/checkpoint.h"
#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/grad_scaler.h"
#include "tessera/fsdp/ignore.h"
#include "tessera/fsdp/lr_schedule.h"
#include "tessera/fsdp/optim.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/wrap.h"
#include "tessera/libtorch/random_state.h"
#include "tessera/storage/memory_storage.h"
#include "tests/support/late_device.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct NetImpl : torch::nn::Module {
  NetImpl()
      : first(register_module("first", wrap(torch::nn::Linear(5, 7)))),
        last(register_module("last", torch::nn::Linear(7, 3))),
        norm(register_module("norm", torch::nn::BatchNorm1d(3))) {}
  at::Tensor forward(const at::Tensor& x) { return norm(last(first(x).relu())); }
  Wrapped<torch::nn::LinearImpl> first;
  torch::nn::Linear last;
  torch::nn::BatchNorm1d norm;
};
TORCH_MODULE(Net);

std::vector<float> values(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.detach().cpu().to(at::kFloat).contiguous().view({-1});
  return {dense.const_data_ptr<float>(), dense.const_data_ptr<float>() + dense.numel()};
}

// Every whole parameter and buffer, by name.
std::map<std::string, std::vector<float>> whole(ModuleRef model) {
  const SummonFullParams summoned(model, {.writeback = false});
  std::map<std::string, std::vector<float>> all;
  for (const NamedParameter& parameter : named_parameters(model)) all[parameter.name] = values(parameter.tensor);
  for (const NamedBuffer& buffer : named_buffers(model)) all[buffer.name] = values(buffer.tensor);
  return all;
}

void step(auto& model, auto& optimizer) {
  model(at::ones({4, 5}) * at::full({4, 1}, 0.5)).square().sum().backward();
  optimizer.step();
  optimizer.zero_grad();
}

void save_to(Job& job, MemoryStorage& storage, State& state) { save(job, storage, "c", state.state_dict()); }
LoadReport load_from(Job& job, MemoryStorage& storage, State& state) {
  StateDict described = state.state_dict();
  const LoadReport report = load(job, storage, "c", described);
  state.load_state_dict(described);
  return report;
}

// A job that saves, or one that resumes.
struct Side {
  std::function<Net()> make = [] { return Net(); };
  StateOptions state = {};
};

// Trains on 2 ranks, saves, goes on for a step; then resumes on `ranks` and must come to the same.
template <class MakeOptimizer, class MakePart>
void resumes(int ranks, MakeOptimizer make_optimizer, MakePart part, const Side& from = {}, const Side& into = {}) {
  MemoryStorage storage;
  std::map<std::string, std::vector<float>> expected;
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, from.make, {.seed = 1});
    auto optimizer = make_optimizer(model);
    for (int i = 0; i < 3; ++i) step(model, optimizer);
    State all = state({{"model", model}, {"optim", part(optimizer, model)}}, from.state);
    save_to(job, storage, all);
    step(model, optimizer);
    auto after = whole(model);
    if (job.rank() == 0) expected = std::move(after);
  });
  run_ranks(ranks, [&](Job& job) {
    auto model = fsdp(job, into.make, {.seed = 2});
    auto optimizer = make_optimizer(model);
    State all = state({{"model", model}, {"optim", part(optimizer, model)}}, into.state);
    load_from(job, storage, all);
    step(model, optimizer);
    const auto actual = whole(model);
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, want] : expected) {
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(actual.at(name)[i], want[i], 1e-5) << name;
    }
  });
}

// The same, whatever the kinds of both states.
template <class MakeOptimizer, class MakePart>
void resumes_in_every_kind(int ranks, MakeOptimizer make_optimizer, MakePart part) {
  const StateOptions kinds[] = {{}, {.kind = Kind::full}, {.kind = Kind::full, .rank0_only = true}};
  for (const StateOptions& saved : kinds) {
    for (const StateOptions& loaded : kinds) resumes(ranks, make_optimizer, part, {.state = saved}, {.state = loaded});
  }
}

TEST(State, OurOptimizersGoOnWhereTheyStoppedOnAnyRanks) {
  for (const int ranks : {1, 2, 3, 4}) {
    resumes_in_every_kind(
        ranks, [](auto& model) { return AdamW(model, {.lr = 0.05}); }, [](Optimizer& optimizer, auto&) { return StatePart(optimizer); });
    const auto part = [](Optimizer& optimizer, auto&) { return StatePart(optimizer); };
    resumes_in_every_kind(ranks, [](auto& model) { return SGD(model, {.lr = 0.05, .momentum = 0.9}); }, part);
    resumes_in_every_kind(ranks, [](auto& model) { return Adam(model, {.lr = 0.05, .weight_decay = 0.1, .amsgrad = true}); }, part);
    resumes_in_every_kind(
        ranks, [](auto& model) { return Adagrad(model, {.lr = 0.05, .lr_decay = 0.1, .initial_accumulator_value = 0.5}); }, part);
  }
}

TEST(State, ElementwiseTorchOptimizersGoOnWhereTheyStoppedOnAnyRanks) {
  const auto part = [](torch::optim::Optimizer& optimizer, auto& model) { return StatePart(optimizer, model); };
  for (const int ranks : {1, 2, 3, 4}) {
    resumes_in_every_kind(
        ranks, [](auto& model) { return torch::optim::AdamW(model->parameters(), torch::optim::AdamWOptions(0.05).amsgrad(true)); }, part);
    resumes_in_every_kind(
        ranks, [](auto& model) { return torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9)); }, part);
  }
}

Net partly_ignored() {
  Net net;
  ignore(net->last);
  return net;
}

TEST(State, IgnoredParametersAreSavedAndGoOnLikeOthersInEveryKind) {
  const auto ours = [](Optimizer& optimizer, auto&) { return StatePart(optimizer); };
  const auto stocks = [](torch::optim::Optimizer& optimizer, auto& model) { return StatePart(optimizer, model); };
  const auto make_ours = [](auto& model) { return AdamW(model, {.lr = 0.05}); };
  const auto make_stocks = [](auto& model) { return torch::optim::AdamW(model->parameters(), torch::optim::AdamWOptions(0.05)); };
  for (const Kind kind : {Kind::sharded, Kind::full, Kind::local}) {
    const Side with{.make = partly_ignored, .state = {.kind = kind}}, without{.state = {.kind = kind}};
    for (const int ranks : {1, 3}) {
      resumes(ranks, make_ours, ours, with, with);
      resumes(ranks, make_stocks, stocks, with, with);
      if (kind == Kind::local) continue;  // whose flat parameters are others
      resumes(ranks, make_ours, ours, with, without);
      resumes(ranks, make_ours, ours, without, with);
    }
    run_ranks(2, [&](Job& job) {
      auto model = fsdp(job, partly_ignored, {.seed = 1});
      const StateDict described = state(model, with.state).state_dict();
      const auto& leaf = std::get<TensorLeaf>(described.leaves.at("last.weight").is);
      EXPECT_TRUE(std::holds_alternative<Replicated>(*leaf.layout));
      EXPECT_EQ(leaf.shards.at(0).view.data, model.module().last->weight.data_ptr()) << "the parameter itself";
    });
  }
  const Side rank0{.make = partly_ignored, .state = {.kind = Kind::full, .rank0_only = true}};
  resumes(3, make_ours, ours, rank0, rank0);
}

TEST(State, SchedulesAndScalersGoOnWhereTheyStopped) {
  MemoryStorage storage;
  const LrCurve curve = warmup_cosine({.warmup = 2, .total = 20});
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
    AdamW optimizer(model, {.lr = 0.05});
    LrSchedule schedule(optimizer, curve);
    GradScaler scaler(job, {.init_scale = 64, .growth_interval = 2});
    for (int i = 0; i < 5; ++i) {
      scaler.scale(model(at::ones({4, 5})).square().sum()).backward();
      scaler.step(optimizer);
      scaler.update();
      schedule.step();
      optimizer.zero_grad();
    }
    State all = state({{"model", model}, {"optim", optimizer}, {"schedule", schedule}, {"scaler", scaler}});
    save_to(job, storage, all);
  });
  run_ranks(3, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 2});
    AdamW optimizer(model, {.lr = 0.9});
    LrSchedule schedule(optimizer, curve);
    GradScaler scaler(job);
    State all = state({{"model", model}, {"optim", optimizer}, {"schedule", schedule}, {"scaler", scaler}});
    load_from(job, storage, all);
    EXPECT_EQ(schedule.last_epoch(), 5);
    EXPECT_EQ(*find_option(optimizer.groups()[0].options, "initial_lr"), Value(0.05));
    EXPECT_EQ(*find_option(optimizer.groups()[0].options, "lr"), Value(0.05 * curve(5)));
    EXPECT_EQ(scaler.get_scale(), 256);
    EXPECT_EQ(*scaler.state_dict().object("_growth_tracker"), Value(1));
  });
}

TEST(State, TorchOptimizersHaveTheKeysOfStock) {
  run_ranks(1, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
    torch::optim::AdamW optimizer(model->parameters(), 0.05);
    const StateDict described = state({{"optim", StatePart(optimizer, model)}}).state_dict();
    EXPECT_TRUE(described.leaves.contains("optim.state.first.weight.exp_avg"));
    EXPECT_TRUE(described.leaves.contains("optim.state.last.bias.step"));
    EXPECT_EQ(*described.object("optim.param_groups.0.lr"), Value(0.05));
    EXPECT_EQ(join(described.leaves.at("optim.param_groups.0.betas").path), "optim.param_groups.0.betas");
    EXPECT_EQ(described.leaves.at("optim.state.first.weight.exp_avg").path, (KeyPath{"optim", "state", "first.weight", "exp_avg"}));
  });
}

TEST(State, AnOptimizerThatIsNotElementwiseIsRefusedByName) {
  run_ranks(1, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
    torch::optim::LBFGS optimizer(model->parameters());
    const auto outcome = capture([&] { state({{"optim", StatePart(optimizer, model)}}).state_dict(); });
    EXPECT_EQ(outcome.fault.code, Code::unsupported);
    EXPECT_THAT(outcome.fault.what, HasSubstr("LBFGS"));
  });
}

TEST(State, APlainModuleAloneHasItsBareNamesAndItsBuffers) {
  MemoryStorage storage;
  run_ranks(2, [&](Job& job) {
    torch::nn::BatchNorm1d norm(3);
    norm->running_mean.fill_(7);
    norm->num_batches_tracked.fill_(5);
    State all = state(norm);
    const StateDict described = all.state_dict();
    std::vector<std::string> keys;
    for (const auto& [key, leaf] : described.leaves) keys.push_back(key);
    EXPECT_THAT(keys, ElementsAre("bias", "num_batches_tracked", "running_mean", "running_var", "weight"));
    save_to(job, storage, all);
    norm->running_mean.zero_();
    norm->num_batches_tracked.zero_();
    load_from(job, storage, all);
    EXPECT_EQ(norm->running_mean[2].item<float>(), 7);
    EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 5);
  });
}

TEST(State, PlainValuesKeepTheirNesting) {
  MemoryStorage storage;
  const Value plain = Value::Mapping{
      {{Value("step"), Value(12)}, {Value("schedule"), Value::list({Value::Mapping{{{Value("lr"), Value(0.5)}}, false}, Value(7)})}},
      false};
  run_ranks(2, [&](Job& job) {
    Value value = plain;
    State all = state({{"progress", value}});
    EXPECT_TRUE(all.state_dict().leaves.contains("progress.schedule.0.lr"));
    save_to(job, storage, all);
    std::get<Value::Mapping>(value.is).items[0].second = Value(99);
    load_from(job, storage, all);
    // The order of a mapping is not part of a checkpoint: keys come back sorted.
    const auto& items = std::get<Value::Mapping>(value.is).items;
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0], (std::pair(Value("schedule"), std::get<Value::Mapping>(plain.is).items[1].second)));
    EXPECT_EQ(items[1], (std::pair(Value("step"), Value(12))));
  });
}

TEST(State, ARandomStreamGoesOnOnItsRankAndStartsAfreshOnOtherRanks) {
  MemoryStorage storage;
  std::vector<std::vector<float>> next(2);
  const auto generator_of = [](int rank) {
    at::Generator generator = at::globalContext().defaultGenerator(at::Device(at::kCPU)).clone();
    generator.set_current_seed(static_cast<uint64_t>(rank + 1));
    return generator;
  };
  run_ranks(2, [&](Job& job) {
    at::Generator generator = generator_of(job.rank());
    at::rand({10}, generator);
    RandomState stream({.seed = 1, .rank = job.rank()}, generator);
    State all = state({{"random", stream}});
    save_to(job, storage, all);
    next[static_cast<size_t>(job.rank())] = values(at::rand({4}, generator));
  });
  EXPECT_NE(next[0], next[1]);
  run_ranks(2, [&](Job& job) {
    at::Generator generator = generator_of(7);
    RandomState stream({.seed = 1, .rank = job.rank()}, generator);
    State all = state({{"random", stream}});
    load_from(job, storage, all);
    EXPECT_EQ(values(at::rand({4}, generator)), next[static_cast<size_t>(job.rank())]);
  });
  std::vector<std::vector<float>> fresh(3);
  run_ranks(3, [&](Job& job) {
    at::Generator generator = generator_of(7);
    RandomState stream({.seed = 1, .rank = job.rank(), .step = [] { return int64_t{5}; }}, generator);
    State all = state({{"random", stream}});
    EXPECT_THAT(load_from(job, storage, all).reset, ElementsAre("random.stream"));
    fresh[static_cast<size_t>(job.rank())] = values(at::rand({4}, generator));
  });
  EXPECT_NE(fresh[0], fresh[1]);
  EXPECT_NE(fresh[1], fresh[2]);
}

// How a job may be set up: every pair saves one for the other.
struct JobSetup {
  const char* name;
  int ranks;
  FsdpOptions options;
  StateOptions state = {};
  bool on_device = false;
  at::Device device(int rank) const { return on_device ? late_device(rank) : at::Device(at::kCPU); }
};

std::vector<JobSetup> setups() {
  const FsdpOptions whole = {.seed = 1, .strategy = Strategy::no_shard};
  const FsdpOptions hybrid = {.seed = 1, .strategy = Strategy::hybrid_shard, .shards = 2};
  const FsdpOptions mixed = {.seed = 1,
                             .mixed_precision = {.param_dtype = at::kBFloat16, .output_dtype = at::kFloat, .buffer_dtype = at::kBFloat16}};
  FsdpOptions hybrid_mixed = hybrid;
  hybrid_mixed.mixed_precision = mixed.mixed_precision;
  return {{"one process", 1, {.seed = 1}},
          {"sharded by 3", 3, {.seed = 1}},
          {"sharded by 4", 4, {.seed = 1}},
          {"shard_grad_op on 2", 2, {.seed = 1, .strategy = Strategy::shard_grad_op}},
          {"whole on 2", 2, whole},
          {"hybrid 2 by 2", 4, hybrid},
          {"hybrid 3 by 2, full", 6, hybrid, {.kind = Kind::full}},
          {"bfloat16 on 2", 2, mixed},
          {"hybrid in bfloat16", 4, hybrid_mixed},
          {"full, rank 0 only", 3, {.seed = 1}, {.kind = Kind::full, .rank0_only = true}},
          {"full, rank 0 only, hybrid", 4, hybrid, {.kind = Kind::full, .rank0_only = true}},
          {"on a device, by 3", 3, {.seed = 1}, {}, true},
          {"on a device, bfloat16, hybrid", 4, hybrid_mixed, {}, true},
          {"on a device, full", 2, {.seed = 1}, {.kind = Kind::full}, true},
          {"on a device, full, rank 0 only", 2, whole, {.kind = Kind::full, .rank0_only = true}, true}};
}

// Each of the optimizer's tensors, whole, by its key.
std::map<std::string, std::vector<float>> whole_state(Optimizer& optimizer) {
  State all = state({{"", optimizer}}, {.kind = Kind::full});
  std::map<std::string, std::vector<float>> found;
  for (const auto& [key, leaf] : all.state_dict().leaves) {
    const auto* tensor = std::get_if<TensorLeaf>(&leaf.is);
    if (!tensor) continue;
    EXPECT_EQ(tensor->shards.at(0).box, ::tessera::whole(tensor->sizes)) << key;
    const auto* first = reinterpret_cast<const float*>(tensor->shards.at(0).view.data);
    found[key].assign(first, first + volume(tensor->sizes));
  }
  return found;
}

TEST(State, GoesBetweenStrategiesPrecisionsAndRanksBitForBit) {
  for (const JobSetup& from : setups()) {
    const auto storage = std::make_shared<MemoryStorage>();
    std::map<std::string, std::vector<float>> expected;
    std::map<std::string, std::vector<float>> moments;
    run_ranks(from.ranks, [&](Job& job) {
      FsdpOptions options = from.options;
      options.device = from.device(job.rank());
      auto model = fsdp(job, [] { return Net(); }, options);
      AdamW optimizer(model, {.lr = 0.05});
      for (int i = 0; i < 2; ++i) {
        model(at::arange(20, at::kFloat).sin().view({4, 5}).to(*options.device)).square().sum().backward();
        optimizer.step();
        optimizer.zero_grad();
      }
      State all = state({{"model", model}, {"optim", optimizer}}, from.state);
      save_to(job, *storage, all);
      auto saved = whole(model);
      auto kept = whole_state(optimizer);
      if (job.rank() != 0) return;
      expected = std::move(saved);
      moments = std::move(kept);
    });
    const auto head = Checkpoint::open(storage, "c");
    for (const auto& [key, entry] : head.manifest().entries) {
      if (const auto* tensor = std::get_if<TensorEntry>(&entry.is); tensor && (key.ends_with("weight") || key.ends_with("running_var")))
        EXPECT_EQ(tensor->dtype, DType::float32) << from.name << ": " << key;
    }
    for (const JobSetup& into : setups()) {
      run_ranks(into.ranks, [&](Job& job) {
        FsdpOptions options = into.options;
        options.seed = 2;
        options.device = into.device(job.rank());
        auto model = fsdp(job, [] { return Net(); }, options);
        AdamW optimizer(model, {.lr = 0.05});
        State all = state({{"model", model}, {"optim", optimizer}}, into.state);
        load_from(job, *storage, all);
        auto loaded = whole(model);
        if (options.mixed_precision.buffer_dtype) {
          for (const char* buffer : {"norm.running_mean", "norm.running_var"}) {
            EXPECT_NEAR(loaded.at(buffer)[0], expected.at(buffer)[0], 0.01);
            loaded[buffer] = expected.at(buffer);  // but for what bfloat16 cannot hold
          }
        }
        EXPECT_EQ(loaded, expected) << from.name << " to " << into.name;
        const auto kept = whole_state(optimizer);
        EXPECT_EQ(kept, moments) << from.name << " to " << into.name;
        EXPECT_EQ(kept.at("state.first.weight.step"), std::vector<float>{2});
      });
    }
  }
}

TEST(State, OfEveryKindHoldsWhatOneProcessHasAndGoesFromAnyRanksToAnyOthers) {
  at::Generator generator = at::globalContext().defaultGenerator(at::Device(at::kCPU));
  generator.set_current_seed(1);
  Net plain;
  AdamW alone(plain, {.lr = 0.05});
  for (int i = 0; i < 2; ++i) step(plain, alone);
  const auto expected = whole(plain);
  for (const Kind kind : {Kind::sharded, Kind::full, Kind::local}) {
    for (int from = 1; from <= 4; ++from) {
      MemoryStorage storage;
      std::map<std::string, std::vector<float>> saved;
      run_ranks(from, [&](Job& job) {
        auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
        AdamW optimizer(model, {.lr = 0.05});
        for (int i = 0; i < 2; ++i) step(model, optimizer);
        State all = state(model, {.kind = kind});
        save_to(job, storage, all);
        auto values = whole(model);
        if (job.rank() == 0) saved = std::move(values);
      });
      for (const auto& [name, want] : expected) {
        for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(saved.at(name).at(i), want[i], 1e-5) << name << " on " << from;
      }
      for (int into = 1; into <= 4; ++into) {
        run_ranks(into, [&](Job& job) {
          auto model = fsdp(job, [] { return Net(); }, {.seed = 2});
          State all = state(model, {.kind = kind});
          load_from(job, storage, all);
          EXPECT_EQ(whole(model), saved) << "kind " << static_cast<int>(kind) << " from " << from << " to " << into;
        });
      }
    }
  }
}

// 34 MiB that nobody keeps equal: large enough to be shared among those who write.
struct OwnImpl : torch::nn::Module {
  OwnImpl() {
    own = ignore(register_parameter("own", at::zeros({8, 1 << 20})));
    weight = register_parameter("weight", at::ones({3}));
  }
  at::Tensor own, weight;
};
TORCH_MODULE(Own);

TEST(State, WhatRanksMayHoldDifferentlyIsSavedAsTheFirstHasIt) {
  const auto storage = std::make_shared<MemoryStorage>();
  run_ranks(3, [&](Job& job) {
    auto model = fsdp(job, [] { return Own(); }, {.seed = 1});
    {
      const at::NoGradGuard no_grad;
      model->module().own.fill_(job.rank() + 1);
    }
    State all = state(model);
    save_to(job, *storage, all);
  });
  const at::Tensor saved = at::zeros({8, 1 << 20});
  TensorViews views;
  Checkpoint::open(storage, "c").read("own", ::tessera::whole(Sizes{8, 1 << 20}), views.view(saved));
  EXPECT_TRUE(at::equal(saved, at::ones_like(saved)));
}

void expect_nothing_kept(Kind kind, bool on_device) {
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1, .device = on_device ? late_device(job.rank()) : at::Device(at::kCPU)});
    State all = state(model, {.kind = kind});
    std::weak_ptr<void> memory;
    {
      const StateDict described = all.state_dict();
      memory = std::get<TensorLeaf>(described.leaves.at("first.weight").is).shards.at(0).view.owner;
      EXPECT_FALSE(memory.expired());
    }
    EXPECT_TRUE(memory.expired());
    EXPECT_EQ(capture([&] { all.load_state_dict({}); }).fault.code, Code::invalid_argument);
  });
}

TEST(State, OfKindFullKeepsNothingOnceItsDescriptionIsGone) { expect_nothing_kept(Kind::full, false); }
TEST(State, OfADeviceKeepsNothingOnceItsDescriptionIsGone) { expect_nothing_kept(Kind::sharded, true); }

TEST(State, OfRank0OnlyIsOfKindFull) {
  run_ranks(1, [](Job& job) {
    auto model = fsdp(job, [] { return Net(); }, {.seed = 1});
    EXPECT_EQ(capture([&] { state({{"model", model}}, {.rank0_only = true}); }).fault.code, Code::invalid_argument);
  });
}

}  // namespace
}  // namespace tessera
