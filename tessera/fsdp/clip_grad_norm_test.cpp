#include "tessera/fsdp/clip_grad_norm.h"

#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/fsdp/test_model.h"

namespace tessera::testing {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// As torch.nn.utils.clip_grad_norm_ reckons it: the norm of the norms of all gradients.
double stock_norm(const Values& gradients, double p) {
  double sum = 0;
  for (const auto& [name, gradient] : gradients) {
    if (gradient.numel() == 0) continue;
    const double norm = at::linalg_vector_norm(gradient.to(at::kDouble), p).item<double>();
    sum = std::isinf(p) ? std::max(sum, norm) : sum + std::pow(norm, p);
  }
  return std::isinf(p) ? sum : std::pow(sum, 1 / p);
}

at::Tensor loss_of(Wrapped<NetImpl>& model, const Job& job) { return loss(model(rows_of(batch(0, batch_rows), job.rank(), job.size()))); }

TEST(ClipGradNorm, IsThatOfTheWholeModelForEveryP) {
  Net plain = plain_net();
  loss(plain(batch(0, batch_rows))).backward();
  const Values alone = gradients_of(plain);
  for (const double p : {1.0, 2.0, 3.0, infinity}) {
    const double norm = stock_norm(alone, p);
    for (const Spread& spread : spreads()) {
      run_ranks(spread.ranks, [&](Job& job) {
        auto model = sharded_net(job, {.strategy = spread.strategy, .shards = spread.shards});
        loss_of(model, job).backward();
        const Values before = gradients_of(model);
        EXPECT_NEAR(clip_grad_norm_(model, 2 * norm, {.norm_type = p}), norm, 1e-5 * norm) << p << ", " << text_of(spread);
        EXPECT_TRUE(identical(gradients_of(model), before)) << "a norm below the limit changes nothing";
        clip_grad_norm_(model, norm / 2, {.norm_type = p});
        EXPECT_NEAR(stock_norm(gradients_of(model), p), norm / 2, 1e-5 * norm) << p << ", " << text_of(spread);
      });
    }
  }
}

// A unit that is sharded, one that every rank holds, and a parameter outside both.
struct MixedImpl : torch::nn::Module {
  MixedImpl() {
    outer = register_module("outer", wrap(Block(3)));
    whole = register_module("whole", wrap(Block(3), {.strategy = Strategy::no_shard}));
  }
  at::Tensor forward(const at::Tensor& x) { return whole(outer(x)); }
  Wrapped<BlockImpl> outer = nullptr, whole = nullptr;
};
TORCH_MODULE(Mixed);

TEST(ClipGradNorm, CountsOnceWhatEveryRankHolds) {
  for (const double p : {1.0, 2.0, infinity}) {
    run_ranks(3, [&](Job& job) {
      auto model = fsdp(job, [] { return Mixed(); }, {.seed = 1});
      int64_t elements = 0;
      for (const NamedFlatUnit& named : flat_units(model)) {
        const at::Tensor& shard = named.unit->shard();
        shard.mutable_grad() = at::full_like(shard.detach(), 2);
        const int64_t mine = named.unit->layout().range(named.unit->shard_rank()).size();
        shard.grad().narrow(0, mine, shard.numel() - mine).zero_();
        elements += named.unit->layout().numel;
      }
      const double norm = std::isinf(p) ? 2 : std::pow(static_cast<double>(elements) * std::pow(2, p), 1 / p);
      EXPECT_NEAR(clip_grad_norm_(model, 1, {.norm_type = p}), norm, 1e-9 * norm);
    });
  }
}

TEST(ClipGradNorm, ShowsANormThatIsNotFiniteOrThrowsOnEveryRank) {
  for (const double bad : {infinity, std::numeric_limits<double>::quiet_NaN()}) {
    for (const double p : {1.0, 2.0, 3.0, infinity}) {
      run_ranks(3, [&](Job& job) {
        auto model = sharded_net(job);
        loss_of(model, job).backward();
        const at::Tensor gradient = flat_units(model).front().unit->shard().grad();
        if (job.rank() == 1) gradient.fill_(bad);
        const at::Tensor before = gradient.clone();
        EXPECT_THROW(clip_grad_norm_(model, 1, {.norm_type = p, .error_if_nonfinite = true}), Error);
        EXPECT_TRUE(before.equal(gradient) || job.rank() == 1);
        EXPECT_EQ(std::isnan(clip_grad_norm_(model, 1, {.norm_type = p})), std::isnan(bad));
      });
    }
  }
}

TEST(ClipGradNorm, RefusesWhatIsNoNorm) {
  run_ranks(1, [](Job& job) {
    auto model = sharded_net(job);
    for (const double p : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
      EXPECT_THROW(clip_grad_norm_(model, 1, {.norm_type = p}), Error);
  });
}

}  // namespace
}  // namespace tessera::testing
