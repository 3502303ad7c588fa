// Every feature of training, under every strategy on 1 to 4 ranks, against one process that shards nothing. The ranks are threads, that
// compute on the CPU or each on a device of its own; or, with
//   tessera-launch --ranks 4 -- fsdp_test --gtest_filter=Features.OnTheRanksOfALauncher
// those processes.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "tessera/fsdp/clip_grad_norm.h"
#include "tessera/fsdp/grad_scaler.h"
#include "tessera/fsdp/ignore.h"
#include "tessera/fsdp/no_sync.h"
#include "tessera/fsdp/policy.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/traversal.h"
#include "tests/support/late_device.h"

namespace tessera::testing {
namespace {

constexpr int steps = 4;
constexpr int64_t rows = 24;  // of a step, over all ranks and parts
constexpr double rounding = 2e-6;  // of float32, after these steps on values of about 1

Block partly_frozen_block() {
  Block block(4);
  block->first_weight.set_requires_grad(false);
  return block;
}

// Net, and what it lacks: parameters that are frozen, ignored or of other dtypes, buffers, and a unit of which a part is frozen.
struct ZooImpl : torch::nn::Module {
  explicit ZooImpl(at::Device device = at::kCPU) {
    net = register_module("net", Net());
    block = register_module("block", wrap(partly_frozen_block()));
    base = register_parameter("base", at::randn({4, 4}) * 0.5, /*requires_grad=*/false);
    wide = register_parameter("wide", at::randn({3}, at::kDouble));
    table = register_parameter("table", at::arange(4, at::kLong), /*requires_grad=*/false);
    own = ignore(register_parameter("own", at::randn({4}).to(device)));  // which nobody else places
    shift = register_buffer("shift", at::randn({4}));
    seen = register_buffer("seen", at::zeros({}, at::kLong));
  }
  at::Tensor forward(const at::Tensor& x) {
    seen.add_(1);
    const at::Tensor y = block(net->forward(x)).matmul(base) * own;
    return y + (wide * wide).sum().to(y.scalar_type()) + table * 0.1 + shift;
  }
  Net net = nullptr;
  Wrapped<BlockImpl> block = nullptr;
  at::Tensor base, wide, table, own, shift, seen;
};
TORCH_MODULE(Zoo);

enum class Accumulate { none, adding, quietly, among_replicas };

// A feature, or several at once, that leave what training comes to as it is, within `tolerance`.
struct Feature {
  const char* name;
  FsdpOptions options = {};
  MakeOptimizer optimizer = adamw;
  Accumulate accumulate = Accumulate::none;
  bool clip = false;  // by another norm every step
  bool scale = false;  // the loss, by a GradScaler
  bool summon = false;  // after each step, to change parameters
  bool eval = false;  // after each step
  double tolerance = rounding;
};

template <class Kind, class Options>
MakeOptimizer with(const Options& options) {
  return [options](ModuleRef model) { return std::make_unique<Kind>(model, options); };
}

const std::vector<Feature>& features() {
  // Where an unused module is part of a unit it has gradients of zeros, and would decay.
  const MakeOptimizer no_decay = with<AdamW>(AdamWOptions{.lr = 0.01, .weight_decay = 0});
  const auto is_bias = [](std::string_view name) { return name.ends_with("bias"); };
  const MixedPrecision in_bfloat16 = {.param_dtype = at::kBFloat16, .reduce_dtype = at::kFloat, .output_dtype = at::kFloat};
  const MixedPrecision in_half = {.param_dtype = at::kHalf, .output_dtype = at::kFloat};
  static const std::vector<Feature> list = {
      {.name = "AdamW"},
      {.name = "Adam, scale", .optimizer = with<Adam>(AdamOptions{.lr = 0.01, .weight_decay = 0.05, .amsgrad = true}), .scale = true},
      {.name = "Adagrad, no prefetch", .options = {.prefetch = 0}, .optimizer = with<Adagrad>(AdagradOptions{.lr = 0.05, .lr_decay = 0.1})},
      {.name = "fused, prefetch", .options = {.prefetch = 3}, .optimizer = with<AdamW>(AdamWOptions{.lr = 0.01, .fused = true})},
      {.name = "groups, small units kept whole",
       .options = {.alignment_bytes = 1, .keep_whole_below = 50},
       .optimizer = with<AdamW>(AdamWOptions{.lr = 0.01, .groups = {{.params = is_bias, .lr = 0.02, .weight_decay = 0.0}}})},
      {.name = "one unit", .options = {.policy = wrap_type<ZooImpl>()}, .optimizer = no_decay},
      {.name = "large units", .options = {.min_numel = 50}, .optimizer = no_decay},
      {.name = "recompute", .options = {.recompute = true}},
      {.name = "accumulate by adding", .accumulate = Accumulate::adding},
      {.name = "accumulate quietly", .accumulate = Accumulate::quietly},
      {.name = "accumulate within replicas", .accumulate = Accumulate::among_replicas},
      {.name = "SGD, clip", .optimizer = sgd, .clip = true},
      {.name = "summon, eval", .summon = true, .eval = true},
      {.name = "all at once",
       .options = {.keep_whole_below = 50, .prefetch = 2, .recompute = true},
       .optimizer = sgd,
       .accumulate = Accumulate::quietly,
       .clip = true,
       .scale = true,
       .summon = true,
       .eval = true},
      {.name = "bfloat16", .options = {.mixed_precision = in_bfloat16}, .optimizer = sgd, .tolerance = 0.03},
      {.name = "bfloat16, and more",
       .options = {.prefetch = 2, .mixed_precision = in_bfloat16, .recompute = true},
       .optimizer = sgd,
       .accumulate = Accumulate::among_replicas,
       .clip = true,
       .summon = true,
       .tolerance = 0.03},
      {.name = "float16", .options = {.mixed_precision = in_half}, .optimizer = sgd, .scale = true, .tolerance = 0.01},
  };
  return list;
}

ZooImpl& zoo(Zoo& model) { return *model; }
ZooImpl& zoo(Wrapped<ZooImpl>& model) { return model.module(); }

// One process has none of what no loss depends on; a unit that is used in part has zeros. Nobody reduces what is ignored.
void finish_gradients(const Job&, Zoo& model) { model->net->unused.mutable_grad() = at::zeros({5}); }
void finish_gradients(const Job& job, Wrapped<ZooImpl>& model) {
  job.collectives().all_reduce(model.module().own.grad(), Reduce::mean)->wait();
}

at::Device device_of(Zoo& model) { return model->own.device(); }
at::Device device_of(Wrapped<ZooImpl>& model) { return model.module().own.device(); }

template <class Model>
void backward(const Job& job, Model& model, const GradScaler& scaler, Accumulate accumulate, int step) {
  const int parts = accumulate == Accumulate::none ? 1 : 2;
  for (int part = 0; part < parts; ++part) {
    std::optional<NoSync> quiet;
    if (part + 1 < parts && accumulate != Accumulate::adding) {
      quiet.emplace(model, NoSyncOptions{.among_replicas_only = accumulate == Accumulate::among_replicas});
    }
    const at::Tensor x = rows_of(rows_of(batch(step, rows), part, parts), job.rank(), job.size());
    scaler.scale(loss(model(x.to(device_of(model)))) / parts).backward();
  }
  finish_gradients(job, model);
}

template <class Model>
Values train(const Job& job, Model& model, const Feature& feature) {
  constexpr double norms[steps] = {1, 2, 3, std::numeric_limits<double>::infinity()};
  Values seen;
  const auto optimizer = feature.optimizer(model);
  GradScaler scaler(job, {.init_scale = 1024, .enabled = feature.scale});
  for (int step = 0; step < steps; ++step) {
    backward(job, model, scaler, feature.accumulate, step);
    const std::string number = std::to_string(step);
    if (feature.clip) {
      scaler.unscale_(*optimizer);
      const double norm = clip_grad_norm_(model, 2, {.norm_type = norms[step]});
      seen["norm " + number] = at::full({}, norm > 2 ? 2 / norm : 1);  // what gradients were multiplied by
    }
    scaler.step(*optimizer);
    scaler.update();
    optimizer->zero_grad();
    const at::NoGradGuard no_grad;
    if (feature.summon) {
      const SummonFullParams whole(model);
      zoo(model).net->in.mul_(0.9);
      zoo(model).net->blocks[1].module().second_bias.add_(0.1);
    }
    if (feature.eval) {
      model->eval();
      seen["output " + number] = model(batch(step, 3).to(device_of(model))).clone();
      model->train();
    }
  }
  for (const NamedBuffer& buffer : named_buffers(model)) seen[buffer.name] = buffer.tensor.clone();
  seen.merge(values_of(model));
  for (auto& [name, tensor] : seen) tensor = tensor.cpu();
  return seen;
}

Values train_alone(const Feature& feature) {
  Values alone;
  run_ranks(1, [&](Job& job) {
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    generator.set_current_seed(net_seed);
    Zoo model;  // outside any scope: nothing is wrapped or ignored
    alone = train(job, model, feature);
  });
  return alone;
}

Values train_sharded(const Job& job, const Feature& feature, const Spread& spread, at::Device device = at::kCPU) {
  FsdpOptions options = feature.options;
  options.seed = net_seed;
  options.strategy = spread.strategy;
  options.shards = spread.shards;
  options.device = device;
  auto model = fsdp(job, [&] { return Zoo(device); }, options);
  return train(job, model, feature);
}

void expect_same(const Values& together, const Values& alone, const Feature& feature, const Spread& spread) {
  EXPECT_LE(difference(together, alone), feature.tolerance) << feature.name << ", " << text_of(spread);
}

void expect_as_in_one_process(at::Device (*device)(int rank)) {
  for (const Feature& feature : features()) {
    const Values alone = train_alone(feature);
    for (const Spread& spread : spreads()) {
      std::vector<Values> together(static_cast<size_t>(spread.ranks));
      run_ranks(spread.ranks,
                [&](Job& job) { together[static_cast<size_t>(job.rank())] = train_sharded(job, feature, spread, device(job.rank())); });
      expect_same(together[0], alone, feature, spread);
      for (const Values& other : together) EXPECT_TRUE(identical(other, together[0])) << feature.name << ", " << text_of(spread);
    }
  }
}

TEST(Features, LeaveWhatTrainingComesToAsInOneProcess) {
  expect_as_in_one_process([](int) { return at::Device(at::kCPU); });
}
TEST(Features, LeaveItSoOnADeviceToo) { expect_as_in_one_process(late_device); }
TEST(Features, LeaveItSoOnGpusToo) {
  if (!at::globalContext().hasCUDA() || c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount() < 4) GTEST_SKIP() << "no four GPUs";
  expect_as_in_one_process([](int rank) { return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(rank)); });
}

void train_on_launched_ranks(const std::function<bool(const Feature&)>& wanted) {
  if (!launched()) GTEST_SKIP() << "no launcher";
  at::set_num_threads(1);
  const Job job = join();
  for (const Feature& feature : features()) {
    if (!wanted(feature)) continue;
    const Values alone = train_alone(feature);
    for (const Spread& spread : spreads()) {
      if (spread.ranks == job.size()) expect_same(train_sharded(job, feature, spread), alone, feature, spread);
    }
  }
}

TEST(Features, OnTheRanksOfALauncher) {
  train_on_launched_ranks([](const Feature&) { return true; });
}
TEST(Features, AllAtOnceOnTheRanksOfALauncher) {
  train_on_launched_ranks([](const Feature& feature) { return feature.options.recompute && feature.eval; });
}

}  // namespace
}  // namespace tessera::testing
