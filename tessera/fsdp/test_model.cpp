#include "tessera/fsdp/test_model.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <mutex>

#include "tessera/fsdp/summon.h"
#include "tessera/fsdp/tie.h"
#include "tessera/fsdp/traversal.h"

namespace tessera::testing {

BlockImpl::BlockImpl(int64_t width) {
  first_weight = register_parameter("first_weight", at::randn({width, width}) * 0.5);
  first_bias = register_parameter("first_bias", at::randn({width}) * 0.5);
  second_weight = register_parameter("second_weight", at::randn({width, width}) * 0.5);
  second_bias = register_parameter("second_bias", at::randn({width}) * 0.5);
}

at::Tensor BlockImpl::forward(at::Tensor x) {
  const at::Tensor hidden = (x.matmul(first_weight.t()) + first_bias).tanh();
  return x + hidden.matmul(second_weight.t()) + second_bias;
}

NetImpl::NetImpl(int count) {
  in = register_parameter("in", (at::randn({4, net_width}) * 0.5).t());  // not contiguous
  for (int i = 0; i < count; ++i) {
    blocks.push_back(wrap(Block(net_width)));
    register_module("block" + std::to_string(i), blocks.back());
  }
  idle = wrap(Block(2));
  register_module("idle", idle);
  out = register_parameter("out", at::randn({net_width, 4}));
  tie(*this, out, in);  // one tensor under two names
  unused = register_parameter("unused", at::randn({5}));
  scale = register_parameter("scale", at::randn({}));
  nothing = register_parameter("nothing", at::empty({0, 3}));
}

at::Tensor NetImpl::forward(at::Tensor x) {
  x = x.matmul(in.t());
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i == 1 && before_block) before_block();
    x = blocks[i](x);
  }
  x = blocks[0](x);  // again
  return x.matmul(out) * scale + nothing.sum();
}

at::Tensor batch(int step, int64_t rows) {
  return at::sin(at::arange(rows * 4, at::kFloat) * (1.7f + static_cast<float>(step))).view({rows, 4});
}
at::Tensor loss(const at::Tensor& output) { return (output * output).mean() + output.mean(); }
at::Tensor rows_of(const at::Tensor& whole, int rank, int ranks) { return whole.chunk(ranks, 0).at(static_cast<size_t>(rank)); }

std::vector<Spread> spreads() {
  std::vector<Spread> all;
  for (int ranks = 1; ranks <= 4; ++ranks) {
    for (const Strategy strategy : {Strategy::full_shard, Strategy::shard_grad_op, Strategy::no_shard}) all.push_back({ranks, strategy, 0});
    for (const Strategy strategy : {Strategy::hybrid_shard, Strategy::hybrid_shard_grad_op}) {
      for (int shards = 1; shards <= ranks; ++shards) {
        if (ranks % shards == 0) all.push_back({ranks, strategy, shards});
      }
    }
  }
  return all;
}

std::string text_of(const Spread& spread) {
  return std::string(name(spread.strategy)) + " on " + std::to_string(spread.ranks) +
         (spread.shards ? " by " + std::to_string(spread.shards) : "");
}

Net plain_net() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_current_seed(net_seed);
  return Net();
}

Wrapped<NetImpl> sharded_net(const Job& job, FsdpOptions options) {
  if (!options.seed) options.seed = net_seed;
  return fsdp(job, [] { return Net(); }, options);
}

Values values_of(ModuleRef model) {
  const SummonFullParams whole(model, {.writeback = false});
  Values values;
  for (const NamedParameter& parameter : named_parameters(model)) values[parameter.name] = parameter.tensor.detach().clone();
  return values;
}

Values gradients_of(ModuleRef model) {
  Values gradients;
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->show_gradients();
  for (const NamedParameter& parameter : named_parameters(model)) {
    const at::Tensor& gradient = parameter.tensor.mutable_grad();
    if (gradient.defined()) gradients[parameter.name] = gradient.clone();
  }
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->hide_gradients(/*write_back=*/false);
  return gradients;
}

double difference(const Values& a, const Values& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  double largest = 0;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.sizes() != value.sizes()) return std::numeric_limits<double>::quiet_NaN();
    if (value.numel() == 0) continue;
    const auto apart = (value - other->second).abs().max().item<double>();
    if (std::isnan(apart)) return apart;
    largest = std::max(largest, apart);
  }
  return largest;
}

bool identical(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    if (other == b.end() || !at::equal(value, other->second)) return false;
  }
  return true;
}

Values train_alone(const MakeOptimizer& make, int steps) {
  Net model = plain_net();
  const auto optimizer = make(model);
  // What a unit has that is used in part: gradients of zeros for the rest.
  for (int step = 0; step < steps; ++step) {
    loss(model(batch(step, batch_rows))).backward();
    model->unused.mutable_grad() = at::zeros({5});
    optimizer->step();
    optimizer->zero_grad();
  }
  return values_of(model);
}

Values train_sharded(const Job& job, Wrapped<NetImpl>& model, const MakeOptimizer& make, int steps, int first_step) {
  const auto optimizer = make(model);
  for (int step = first_step; step < first_step + steps; ++step) {
    loss(model(rows_of(batch(step, batch_rows), job.rank(), job.size()))).backward();
    optimizer->step();
    optimizer->zero_grad();
  }
  return values_of(model);
}

Values train_on(int ranks, const FsdpOptions& options, const MakeOptimizer& make, int steps) {
  std::vector<Values> results(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](Job& job) {
    Wrapped<NetImpl> model = sharded_net(job, options);
    results[static_cast<size_t>(job.rank())] = train_sharded(job, model, make, steps);
  });
  for (const Values& other : results) EXPECT_TRUE(identical(results[0], other));
  return results[0];
}

}  // namespace tessera::testing
