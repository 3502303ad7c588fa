// Sharded training against one plain process on the same global batch: losses, the first step's gradients, the parameters that come out.
#include <ATen/Context.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "examples/gpt/train_step.h"
#include "tessera/fsdp/fsdp.h"
#include "tessera/fsdp/optim.h"
#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {
namespace {

constexpr GptConfig config{.layers = 2, .width = 64, .seq = 16};
constexpr int64_t batch = 7;  // no number of ranks here divides it, but one
constexpr int steps = 20;
constexpr uint64_t seed = 100;
constexpr double tolerance = 1e-5;

using Tensors = std::map<std::string, at::Tensor>;

struct Trained {
  std::vector<double> losses;
  Tensors gradients;   // of the first step
  Tensors parameters;  // after the last
};

enum class Rule { sgd, adamw };

template <class Model>
std::unique_ptr<Optimizer> optimizer(Rule rule, const Model& model) {
  if (rule == Rule::sgd) return std::make_unique<SGD>(model, SGDOptions{.lr = 1e-2, .momentum = 0.9});
  return std::make_unique<AdamW>(model, AdamWOptions{.lr = 3e-4, .weight_decay = 0.1});
}

// The whole of what every rank holds a part of, by the sum of parts in zeros.
at::Tensor whole_gradient(const Job& job, const NamedParameter& parameter) {
  if (!parameter.unit) return parameter.tensor.grad().detach().clone();
  const FlatUnit& unit = *parameter.unit;
  const Range mine = unit.layout().part(unit.shard_rank(), parameter.index);
  const FlatParameter& flat = unit.layout().parameters.at(parameter.index);
  at::Tensor whole = at::zeros({flat.numel});
  whole.narrow(0, mine.begin, mine.size()).copy_(unit.part_of(unit.shard().grad(), parameter.index));
  job.collectives().all_reduce(whole, Reduce::sum)->wait();
  return whole.view(flat.sizes);
}

template <class Model>
Trained train(const Job& job, Model& model, Rule rule) {
  Text text("", seed, config.seq);
  const auto optim = optimizer(rule, model);
  Trained trained;
  for (int step = 0; step < steps; ++step) {
    trained.losses.push_back(forward_backward(job, model, text, batch, config.seq));
    if (step == 0) {
      for (const NamedParameter& parameter : named_parameters(model)) trained.gradients[parameter.name] = whole_gradient(job, parameter);
    }
    optim->step();
    optim->zero_grad();
    text.take(batch);
  }
  const SummonFullParams whole(model, {.writeback = false});
  for (const NamedParameter& parameter : named_parameters(model)) trained.parameters[parameter.name] = parameter.tensor.detach().clone();
  return trained;
}

Trained train_alone(Rule rule) {
  Trained trained;
  run_ranks(1, [&](Job& job) {
    at::Generator generator = at::globalContext().defaultGenerator(at::Device(at::kCPU));
    generator.set_current_seed(seed);
    Gpt model(config);  // outside any wrap scope: a plain LibTorch model
    trained = train(job, model, rule);
  });
  return trained;
}

Trained train_on(int ranks, Rule rule) {
  Trained trained;
  run_ranks(ranks, [&](Job& job) {
    auto model = fsdp(job, [] { return Gpt(config); }, {.seed = seed});
    Trained mine = train(job, model, rule);
    if (job.rank() == 0) trained = std::move(mine);
  });
  return trained;
}

double length(const at::Tensor& tensor) { return tensor.to(at::kDouble).norm().item<double>(); }

double largest_length(const Tensors& tensors) {
  double largest = 0;
  for (const auto& [name, tensor] : tensors) largest = std::max(largest, length(tensor));
  return largest;
}

// AdamW divides a gradient by its own size: where the gradient is rounding noise, so is the step.
bool is_noise(const Trained& trained, const std::string& name) {
  return length(trained.gradients.at(name)) < 1e-6 * largest_length(trained.gradients);
}

struct Case {
  int ranks;
  Rule rule;
};
class Training : public testing::TestWithParam<Case> {};

TEST_P(Training, EqualsOneProcessOnTheSameGlobalBatch) {
  const auto [ranks, rule] = GetParam();
  const Trained alone = train_alone(rule);
  const Trained together = train_on(ranks, rule);
  double worst_loss = 0, worst_gradient = 0, worst_parameter = 0;
  std::string noise;
  for (int step = 0; step < steps; ++step) {
    const double apart = std::fabs(together.losses[step] - alone.losses[step]) / std::fabs(alone.losses[step]);
    worst_loss = std::max(worst_loss, apart);
    EXPECT_LE(apart, tolerance) << "step " << step;
  }
  EXPECT_LT(alone.losses.back(), alone.losses.front());
  ASSERT_EQ(alone.parameters.size(), together.parameters.size());
  for (const auto& [name, gradient] : alone.gradients) {
    if (is_noise(alone, name)) {
      noise += " " + name;
      continue;
    }
    const double gradient_apart = length(together.gradients.at(name) - gradient) / length(gradient);
    const double parameter_apart = length(together.parameters.at(name) - alone.parameters.at(name)) / length(alone.parameters.at(name));
    worst_gradient = std::max(worst_gradient, gradient_apart);
    worst_parameter = std::max(worst_parameter, parameter_apart);
    EXPECT_LE(gradient_apart, tolerance) << name;
    EXPECT_LE(parameter_apart, tolerance) << name;
  }
  std::printf("worst relative difference: loss %.1e, first gradient %.1e, parameter %.1e; gradients that are noise:%s\n", worst_loss,
              worst_gradient, worst_parameter, noise.empty() ? " none" : noise.c_str());
}

TEST_P(Training, TwiceIsTheSameBitForBit) {
  const auto [ranks, rule] = GetParam();
  const Trained first = train_on(ranks, rule);
  const Trained second = train_on(ranks, rule);
  EXPECT_EQ(first.losses, second.losses);
  for (const auto& [name, parameter] : first.parameters) EXPECT_TRUE(parameter.equal(second.parameters.at(name))) << name;
}

INSTANTIATE_TEST_SUITE_P(Ranks, Training,
                         testing::Values(Case{2, Rule::sgd}, Case{3, Rule::sgd}, Case{4, Rule::sgd}, Case{2, Rule::adamw},
                                         Case{3, Rule::adamw}, Case{4, Rule::adamw}),
                         [](const auto& info) {
                           return (info.param.rule == Rule::sgd ? "sgd_" : "adamw_") + std::to_string(info.param.ranks);
                         });

}  // namespace
}  // namespace tessera
