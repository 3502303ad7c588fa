// The code of docs/training.md, which documented.py holds against this file, and which does here what the page says.
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <cmath>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/collectives/mesh.h"
#include "tessera/fsdp/clip_grad_norm.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/grad_scaler.h"
#include "tessera/fsdp/ignore.h"
#include "tessera/fsdp/lr_schedule.h"
#include "tessera/fsdp/no_sync.h"
#include "tessera/fsdp/optim.h"
#include "tessera/fsdp/policy.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/tie.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/unit_list.h"
#include "tessera/fsdp/unshard.h"
#include "tessera/libtorch/state.h"
#include "tests/support/temporary_directory.h"

namespace {

using tessera::Job;
using tessera::Strategy;

struct LayerImpl : torch::nn::Module {
  explicit LayerImpl(int64_t width)
      : in(register_module("in", torch::nn::Linear(width, 2 * width))), out(register_module("out", torch::nn::Linear(2 * width, width))) {}
  at::Tensor forward(const at::Tensor& x) { return x + out(in(x).relu()); }

  torch::nn::Linear in, out;
};
TORCH_MODULE(Layer);

struct NetImpl : torch::nn::Module {
  NetImpl()
      : first(register_module("first", tessera::wrap(Layer(16)))),
        second(register_module("second", tessera::wrap(Layer(16)))),
        head(register_module("head", torch::nn::Linear(16, 4))) {}
  at::Tensor forward(const at::Tensor& x) { return head(second(first(x))); }

  tessera::Wrapped<LayerImpl> first, second;
  torch::nn::Linear head;
};
TORCH_MODULE(Net);

const auto make = [] { return Net(); };

std::pair<at::Tensor, at::Tensor> batch(int64_t step, int rank = 0, int ranks = 1) {
  constexpr int64_t size = 8;
  const at::Tensor x = at::rand({size, 16}) + static_cast<double>(step % 2), y = at::randint(0, 4, {size}, at::kLong);
  const int64_t first = size * rank / ranks, last = size * (rank + 1) / ranks;
  return {x.slice(0, first, last), y.slice(0, first, last)};
}
at::Tensor loss_of(const at::Tensor& logits, const at::Tensor& kinds) { return at::cross_entropy_loss(logits, kinds); }

// What every rank of four does.
void on_four(const std::function<void(Job&)>& body) { tessera::run_ranks(4, body); }
template <class Model>
void backward(const Job& job, Model& model, int64_t step = 1) {
  const auto [x, y] = batch(step, job.rank(), job.size());
  loss_of(model(x), y).backward();
}

TEST(Documented, PlainLoop) {
  const int64_t last = 3;
  Net model;
  torch::optim::AdamW optim(model->parameters(), torch::optim::AdamWOptions(1e-3));
  for (int64_t step = 1; step <= last; ++step) {
    const auto [x, y] = batch(step);
    loss_of(model(x), y).backward();
    optim.step();
    optim.zero_grad();
  }
}

// The loop of the page, until `last`; the step that it began with.
int64_t train(const Job& job, const std::string& directory, int64_t last) {
  auto model = tessera::fsdp(job, [] { return Net(); }, {.seed = 1});
  tessera::AdamW optim(model, {.lr = 1e-3});
  auto state = tessera::state({{"model", model}, {"optim", optim}});
  tessera::Checkpoints steps(job, directory, {.keep_last = 2});
  const auto done = steps.latest();
  if (done) steps.load(*done, state);
  for (int64_t step = done.value_or(0) + 1; step <= last; ++step) {
    const auto [x, y] = batch(step, job.rank(), job.size());
    loss_of(model(x), y).backward();
    optim.step();
    optim.zero_grad();
    if (step % 2 == 0) steps.save(step, state);
  }
  return done.value_or(0);
}

TEST(Documented, ShardedLoopSavesAndResumesOnAnotherNumberOfRanks) {
  const tessera::TemporaryDirectory directory;
  tessera::run_ranks(2, [&](Job& job) { EXPECT_EQ(train(job, directory.path(), 5), 0); });
  tessera::run_ranks(3, [&](Job& job) { EXPECT_EQ(train(job, directory.path(), 7), 4); });
}

TEST(Documented, Strategies) {
  on_four([](Job& job) {
    auto zero2 = tessera::fsdp(job, make, {.strategy = Strategy::shard_grad_op});
    auto ddp = tessera::fsdp(job, make, {.strategy = Strategy::no_shard});
    auto hybrid = tessera::fsdp(job, make, {.strategy = Strategy::hybrid_shard, .shards = 2});
    backward(job, zero2);
    backward(job, ddp);
    backward(job, hybrid);
    EXPECT_EQ(tessera::unit_list(hybrid).back().strategy, Strategy::hybrid_shard);
    EXPECT_EQ(tessera::unit_list(hybrid).back().shard_bytes, 2 * tessera::unit_list(zero2).back().shard_bytes);
    EXPECT_EQ(tessera::unit_list(ddp).back().shard_bytes, 4 * tessera::unit_list(zero2).back().shard_bytes);
  });
}

TEST(Documented, Meshes) {
  on_four([](Job& job) {
    const tessera::Mesh mesh = tessera::make_mesh(job, {.shards = 2});
    mesh.shard_group().all_reduce(at::rand({3}), tessera::Reduce::max)->wait();  // ranks 0 and 1, and ranks 2 and 3
    EXPECT_EQ(mesh.replicas(), 2);
  });
}

TEST(Documented, PoliciesAndOverrides) {
  on_four([](Job& job) {
    auto by_type = tessera::fsdp(job, make, {.policy = tessera::wrap_type<LayerImpl>()});
    auto by_size = tessera::fsdp(job, make, {.policy = tessera::wrap_from(1'000'000)});
    auto by_name = tessera::fsdp(job, make, {.policy = tessera::wrap_named([](std::string_view name) { return name == "head"; })});
    EXPECT_EQ(tessera::unit_list(by_type).size(), 3);
    EXPECT_EQ(tessera::unit_list(by_size).size(), 1);
    EXPECT_EQ(tessera::unit_list(by_name).size(), 1);
    const tessera::EnableWrap scope(job, {.min_numel = 1000});
    auto layer = tessera::wrap(Layer(16), {.name = "h.0", .strategy = Strategy::no_shard, .recompute = true});
    {
      const tessera::EnableWrap inner({.strategy = Strategy::no_shard});
      auto other = tessera::wrap(Layer(16));
      EXPECT_EQ(tessera::unit_list(other).front().strategy, Strategy::no_shard);
    }
    EXPECT_EQ(tessera::unit_list(layer).front().strategy, Strategy::no_shard);
  });
}

struct TiedImpl : torch::nn::Module {
  TiedImpl() : in(register_module("in", torch::nn::Linear(8, 8))), out(register_module("out", torch::nn::Linear(8, 8))) {
    tessera::tie(*out, out->weight, in->weight);
  }
  at::Tensor forward(const at::Tensor& x) { return out(in(x)); }

  torch::nn::Linear in, out;
};
TORCH_MODULE(Tied);

TEST(Documented, TiedWeights) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, [] { return Tied(); });
    EXPECT_EQ(tessera::named_parameters(model).size(), 3);
  });
}

struct AdaptedImpl : torch::nn::Module {
  AdaptedImpl() {
    layer = register_module("layer", tessera::wrap(Layer(16)));
    scale = register_parameter("scale", tessera::ignore(at::ones({16})));
    adapter = register_module("adapter", tessera::ignore(Layer(16)));
  }
  at::Tensor forward(const at::Tensor& x) { return adapter(layer(x)) * scale; }

  tessera::Wrapped<LayerImpl> layer = nullptr;
  at::Tensor scale;
  Layer adapter = nullptr;
};
TORCH_MODULE(Adapted);

TEST(Documented, IgnoredParameters) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, [] { return Adapted(); });
    backward(job, model);
    for (const auto& parameter : tessera::parameters_outside_units(model)) {
      if (parameter.tensor.grad().defined()) job.collectives().all_reduce(parameter.tensor.grad(), tessera::Reduce::mean)->wait();
    }
    EXPECT_EQ(tessera::parameters_outside_units(model).size(), 5);
    EXPECT_TRUE(model->module().scale.grad().defined());
  });
}

TEST(Documented, MixedPrecision) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make,
                               {.mixed_precision = {.param_dtype = at::kBFloat16, .reduce_dtype = at::kFloat, .output_dtype = at::kFloat}});
    EXPECT_EQ(model(batch(1).first).scalar_type(), at::kFloat);
    EXPECT_EQ(tessera::unit_list(model).front().dtype, at::kFloat);
  });
}

struct Sentences {
  at::Tensor tokens;
  std::vector<at::Tensor> masks;
};
void visit_tensors(const Sentences& sentences, auto& visit) {
  visit(sentences.tokens);
  tessera::visit_tensors(sentences.masks, visit);
}

struct ReaderImpl : torch::nn::Module {
  at::Tensor forward(const Sentences& sentences) {
    EXPECT_EQ(sentences.masks.at(0).scalar_type(), at::kBFloat16);
    return out(sentences.tokens * sentences.masks.at(0));
  }
  torch::nn::Linear out = register_module("out", torch::nn::Linear(16, 4));
};
TORCH_MODULE(Reader);

TEST(Documented, TensorsInATypeOfOnesOwn) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, [] { return Reader(); }, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    model(Sentences{at::rand({2, 16}), {at::rand({2, 16})}}).sum().backward();
  });
}

TEST(Documented, Recompute) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make, {.recompute = true});
    backward(job, model);
  });
  Layer layer(16);
  const at::Tensor x = at::rand({2, 16});
  const at::Tensor y = tessera::recompute([&](const at::Tensor& given) { return layer(given); }, x);
  y.sum().backward();
  EXPECT_TRUE(layer->in->weight.grad().defined());
}

TEST(Documented, Accumulation) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    const int parts = 4;
    for (int part = 0; part < parts; ++part) {
      std::optional<tessera::NoSync> quiet;
      if (part + 1 < parts) quiet.emplace(model);
      const auto [x, y] = batch(part, job.rank(), job.size());
      (loss_of(model(x), y) / parts).backward();
    }
    EXPECT_GT(tessera::clip_grad_norm_(model, 1.0), 0);
  });
}

TEST(Documented, Clipping) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    backward(job, model);
    const double norm = tessera::clip_grad_norm_(model, 0.01, {.error_if_nonfinite = true});
    EXPECT_GT(norm, 0.01);
    EXPECT_NEAR(tessera::clip_grad_norm_(model, 1.0), 0.01, 1e-5);
  });
}

TEST(Documented, OptimizersAndGroups) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    const auto is_bias = [](std::string_view name) { return name.ends_with("bias"); };
    tessera::AdamW optim(model, {.lr = 3e-4, .weight_decay = 0.1, .groups = {{.params = is_bias, .weight_decay = 0.0}}});
    optim.set_option(0, "lr", 1e-4);
    torch::optim::SGD plain(model->parameters(), 0.1);
    tessera::check_elementwise(plain);  // throws for LBFGS
    auto state = tessera::state({{"model", model}, {"optim", tessera::StatePart(plain, model)}});
    backward(job, model);
    optim.step();
    plain.step();
    EXPECT_EQ(optim.groups().size(), 2);
    EXPECT_FALSE(state.state_dict().leaves.empty());
  });
}

TEST(Documented, Schedules) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    tessera::SGD optim(model, {.lr = 0.1, .momentum = 0.9});
    tessera::LrSchedule schedule(optim, tessera::warmup_cosine({.warmup = 2, .total = 10, .min_ratio = 0.1}));
    auto state = tessera::state({{"model", model}, {"optim", optim}, {"schedule", schedule}});
    for (int64_t step = 1; step <= 10; ++step) {
      backward(job, model, step);
      optim.step();
      schedule.step();
      optim.zero_grad();
    }
    EXPECT_NEAR(schedule.last_lr().front(), 0.01, 1e-12);
  });
}

TEST(Documented, Scaler) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    tessera::AdamW optim(model);
    tessera::GradScaler scaler(job);
    const auto [x, y] = batch(1, job.rank(), job.size());
    scaler.scale(loss_of(model(x), y)).backward();
    scaler.unscale_(optim);  // only where gradients are looked at before the step
    tessera::clip_grad_norm_(model, 1.0);
    scaler.step(optim);
    scaler.update();
    optim.zero_grad();
    EXPECT_EQ(scaler.get_scale(), 65536);
  });
}

TEST(Documented, WhatIsWholeWhen) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make, {.keep_whole_below = 500, .prefetch = 2});
    tessera::unshard(model->module().first, {.wait = false});  // gathers while something else computes
    backward(job, model);
    tessera::reshard(model, /*recurse=*/true);
    for (const auto& unit : tessera::unit_list(model)) EXPECT_FALSE(unit.whole) << unit.name;
  });
}

TEST(Documented, Summon) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    {
      const tessera::SummonFullParams whole(model);
      torch::nn::init::zeros_(model->module().head->weight);
    }
    const tessera::SummonFullParams whole(model, {.writeback = false});
    EXPECT_EQ(model->module().head->weight.abs().sum().item<double>(), 0);
  });
}

TEST(Documented, StateDicts) {
  const tessera::TemporaryDirectory directory;
  on_four([&](Job& job) {
    auto model = tessera::fsdp(job, make, {.seed = 1});
    auto sharded = tessera::state(model);  // no communication, no copy
    auto full = tessera::state(model, {.kind = tessera::Kind::full});
    auto local = tessera::state(model, {.kind = tessera::Kind::local});
    tessera::save(job, directory.path() + "/model", full);
    tessera::load(job, directory.path() + "/model", sharded);  // sharded and full load as one another
    EXPECT_TRUE(sharded.state_dict().leaves.contains("head.weight"));
    EXPECT_TRUE(local.state_dict().leaves.contains("_flat_param"));
  });
}

TEST(Documented, WhatUnitsAreAndTake) {
  on_four([](Job& job) {
    auto model = tessera::fsdp(job, make);
    backward(job, model);
    if (job.rank() == 0) std::printf("%s%s", tessera::describe_units(model).c_str(), tessera::memory_summary(model).c_str());
  });
}

TEST(Documented, ARankThatTakesAnotherBranchIsTold) {
  const auto outcome = tessera::capture([] {
    tessera::run_ranks(2, [](Job& job) {
      auto model = tessera::fsdp(job, make);
      tessera::unshard(job.rank() == 0 ? model->module().first : model->module().second);
    });
  });
  EXPECT_EQ(outcome.fault.code, tessera::Code::mismatch);
  EXPECT_NE(outcome.fault.what.find("launched all_gather of second._flat_param"), std::string::npos) << outcome.fault.what;
}

}  // namespace
