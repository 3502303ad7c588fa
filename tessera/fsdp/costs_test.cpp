// What a step costs a rank: the bytes that it sends and the memory that its units take, against what theory says.
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "tessera/collectives/delayed_collectives.h"
#include "tessera/fsdp/test_model.h"
#include "tessera/fsdp/unit_counters.h"
#include "tessera/fsdp/unit_list.h"

namespace tessera::testing {
namespace {

// Units of different sizes, that no number of ranks divides, one after the other; and a root with parameters of its own.
struct UnevenImpl : torch::nn::Module {
  explicit UnevenImpl(std::vector<int64_t> widths) : first(widths.front()) {
    in = register_parameter("in", at::ones({4, first}));
    for (const int64_t width : widths) {
      blocks.push_back(wrap(Block(width)));
      register_module("block" + std::to_string(blocks.size()), blocks.back());
    }
  }
  at::Tensor forward(at::Tensor x) {
    x = x.matmul(in);
    for (auto& block : blocks) x = block(x.narrow(1, 0, block.module().first_bias.numel()));
    return x;
  }
  int64_t first;
  at::Tensor in;
  std::vector<Wrapped<BlockImpl>> blocks;
};
TORCH_MODULE(Uneven);

const std::vector<int64_t> odd_widths = {37, 31, 23, 11, 7};

void train(Wrapped<UnevenImpl>& model, Optimizer& optimizer) {
  loss(model(batch(0, 3))).backward();
  optimizer.step();
  optimizer.zero_grad();
}

bool is_root(const UnitInfo& unit) { return unit.name.find('.') == std::string::npos; }

JobOptions counted() {
  return {.around = [](auto inner) { return std::make_unique<DelayedCollectives>(std::move(inner), Link{}); }};
}

// A unit's whole bytes travel so often, (N − 1) / N of them from each rank.
int travels(Strategy strategy, const UnitInfo& unit) {
  if (strategy == Strategy::no_shard) return 2;  // an all_reduce
  return strategy == Strategy::full_shard && !is_root(unit) ? 3 : 2;
}

TEST(Costs, AStepSendsTheBytesOfTheoryAndNoneMore) {
  for (const Strategy strategy : {Strategy::full_shard, Strategy::shard_grad_op, Strategy::no_shard}) {
    for (const int ranks : {1, 2, 3, 4}) {
      run_ranks(
          ranks,
          [&](Job& job) {
            auto model = fsdp(job, [] { return Uneven(odd_widths); }, {.seed = 1, .strategy = strategy});
            SGD optimizer(model, {.lr = 0.01});
            const auto& collectives = dynamic_cast<DelayedCollectives&>(job.collectives());
            const auto sent = [&] {
              int64_t bytes = 0;
              for (const auto& [kind, count] : collectives.counts()) bytes += count.bytes;
              return bytes;
            };
            train(model, optimizer);
            int64_t theory = 0, parameters = 0, padding = 0;
            for (const UnitInfo& unit : unit_list(model)) {
              EXPECT_LE(unit.padding_bytes, 16 * ranks) << unit.name;
              const int64_t whole = unit.numel * 4 + unit.padding_bytes;
              theory +=
                  strategy == Strategy::no_shard ? 2 * whole * (ranks - 1) / ranks : travels(strategy, unit) * whole / ranks * (ranks - 1);
              parameters += unit.numel * 4;
              padding += unit.padding_bytes;
            }
            for (int step = 0; step < 3; ++step) {
              const int64_t before = sent();
              train(model, optimizer);
              EXPECT_EQ(sent() - before, theory) << name(strategy) << ", step " << step << " of " << ranks << " ranks";
            }
            const int most = strategy == Strategy::full_shard ? 3 : 2;
            EXPECT_LE(theory, most * (parameters + padding) * (ranks - 1) / ranks);
          },
          counted());
    }
  }
}

TEST(Costs, UnitsTakeTheirSharesTheRootTwoUnitsAndOneGradient) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_ranks(ranks, [&](Job& job) {
      auto model = fsdp(job, [] { return Uneven(std::vector<int64_t>{64, 64, 64, 60, 60, 48}); }, {.seed = 1});
      AdamW optimizer(model, {.lr = 0.01});
      for (int step = 0; step < 2; ++step) train(model, optimizer);
      reset_unit_counters(model);
      for (int step = 0; step < 3; ++step) train(model, optimizer);
      int64_t parameters = 0, root = 0, shards = 0;
      std::vector<int64_t> units;
      for (const UnitInfo& unit : unit_list(model)) {
        parameters += unit.numel * 4;
        shards += unit.shard_bytes;
        if (is_root(unit)) root += unit.numel * 4;
        else units.push_back(unit.numel * 4);
      }
      std::ranges::sort(units, std::greater{});
      const UnitCounters counters = unit_counters(model);
      // Parameters, gradients, and the two moments of AdamW.
      const int64_t taken = 4 * shards + counters.parameter_peak_bytes + counters.gradient_peak_bytes;
      const int64_t least = 4 * parameters / ranks + root + units[0] + units[1] + std::max(root, units[0]);
      EXPECT_LE(static_cast<double>(taken), 1.05 * static_cast<double>(least)) << ranks << " ranks";
      EXPECT_EQ(counters.gradient_bytes, 0);
      // The same with what was freed and kept for the next.
      EXPECT_GT(counters.kept_bytes, 0);
      EXPECT_LE(static_cast<double>(4 * shards + counters.held_peak_bytes), 1.05 * static_cast<double>(least)) << ranks << " ranks";
    });
  }
}

TEST(Costs, UnitsPassTheirMemoryOnSoThatAStepTakesLittleOfTheSystems) {
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](Job& job) {
      auto model = fsdp(job, [] { return Uneven(std::vector<int64_t>(12, 48)); }, {.seed = 1});
      AdamW optimizer(model, {.lr = 0.01});
      for (int step = 0; step < 4; ++step) train(model, optimizer);
      const std::vector<UnitInfo> units = unit_list(model);
      for (int step = 0; step < 3; ++step) {
        reset_unit_counters(model);
        train(model, optimizer);
        // Of 12 units whole in forward, in backward, and their gradients.
        EXPECT_LE(unit_counters(model).fresh_bytes, 2 * units.front().full_bytes + 4 * units.back().full_bytes) << ranks << " ranks";
      }
    });
  }
}

}  // namespace
}  // namespace tessera::testing
