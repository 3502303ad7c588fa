#include "tessera/collectives/thread_collectives.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tessera/collectives/job.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

at::Tensor range_from(int64_t begin, int64_t count) { return at::arange(begin, begin + count, at::kFloat); }

Fault fault_of_ranks(int ranks, const std::function<void(Job&)>& body, const JobOptions& options = {}) {
  const auto outcome = capture([&] { run_ranks(ranks, body, options); });
  EXPECT_FALSE(outcome);
  return outcome.fault;
}

TEST(ThreadCollectives, GatherScatterReduceAndBroadcastAreWhatTheySay) {
  for (int n = 1; n <= 4; ++n) {
    run_ranks(n, [&](Job& job) {
      Collectives& all = job.collectives();
      at::Tensor full = at::zeros({3 * n});
      all.all_gather_into(full, range_from(3 * job.rank(), 3))->wait();
      EXPECT_TRUE(full.equal(range_from(0, 3 * n)));
      // In place: the shard is its own part of the whole.
      full.zero_();
      full.narrow(0, 3 * job.rank(), 3).copy_(range_from(3 * job.rank(), 3));
      all.all_gather_into(full, full.narrow(0, 3 * job.rank(), 3))->wait();
      EXPECT_TRUE(full.equal(range_from(0, 3 * n)));
      at::Tensor shard = at::zeros({3});
      all.reduce_scatter_into(shard, full * (job.rank() + 1), Reduce::sum)->wait();
      EXPECT_TRUE(shard.equal(range_from(3 * job.rank(), 3) * (n * (n + 1) / 2)));
      at::Tensor mean = at::full({2, 2}, job.rank() + 1.0, at::kDouble);
      all.all_reduce(mean, Reduce::mean)->wait();
      EXPECT_EQ(mean[1][1].item<double>(), n * (n + 1) / 2 * (1.0 / n));
      at::Tensor largest = at::full({5}, job.rank(), at::kLong);
      all.all_reduce(largest, Reduce::max)->wait();
      EXPECT_EQ(largest[4].item<int64_t>(), n - 1);
      at::Tensor word = at::full({3}, job.rank(), at::kByte);
      all.broadcast(word, n - 1)->wait();
      EXPECT_EQ(word[2].item<int>(), n - 1);
    });
  }
}

TEST(ThreadCollectives, LetGoOfARanksTensorsWhenItsWaitReturns) {
  run_ranks(4, [](Job& job) {
    for (int i = 0; i < 100; ++i) {
      const at::Tensor full = at::zeros({4000}), shard = at::zeros({1000});
      job.collectives().reduce_scatter_into(shard, full, Reduce::sum)->wait();
      ASSERT_EQ(full.storage().use_count(), 1u) << "the others may not have woken up yet";
      ASSERT_EQ(shard.storage().use_count(), 1u);
    }
  });
}

TEST(ThreadCollectives, RanksMayWaitInAnyOrderWithSeveralUnderWay) {
  run_ranks(3, [&](Job& job) {
    at::Tensor first = at::zeros({6}), second = at::full({1}, 1.0);
    const auto gather = job.collectives().all_gather_into(first, range_from(2 * job.rank(), 2));
    const auto reduce = job.collectives().all_reduce(second, Reduce::sum);
    if (job.rank() == 1) {
      reduce->wait();
      gather->wait();
    } else {
      gather->wait();
      reduce->wait();
    }
    EXPECT_TRUE(first.equal(range_from(0, 6)));
    EXPECT_EQ(second.item<float>(), 3);
  });
}

TEST(ThreadCollectives, ReduceInRankOrderSoThatEveryRunGivesTheSameBits) {
  std::vector<at::Tensor> inputs;
  for (int r = 0; r < 4; ++r) inputs.push_back(at::rand({1000}) * (r + 1));
  const at::Tensor expected = ((inputs[0] + inputs[1]) + inputs[2]) + inputs[3];
  for (int round = 0; round < 20; ++round) {
    run_ranks(4, [&](Job& job) {
      at::Tensor mine = inputs[static_cast<size_t>(job.rank())].clone();
      job.collectives().all_reduce(mine, Reduce::sum)->wait();
      EXPECT_TRUE(mine.equal(expected));
    });
  }
}

TEST(ThreadCollectives, RanksThatTakeDifferentWaysAreToldInsteadOfHanging) {
  const Fault fault = fault_of_ranks(2, [&](Job& job) {
    at::Tensor tensor = at::zeros({job.rank() == 0 ? 4 : 5});
    job.collectives().all_reduce(tensor, Reduce::sum)->wait();
  });
  EXPECT_THAT(fault.what, AllOf(HasSubstr("different ways"), HasSubstr("of 4 Float"), HasSubstr("of 5 Float")));
}

TEST(ThreadCollectives, ADeadlineNamesTheRanksThatAreMissing) {
  std::atomic<bool> late = false;
  const auto wait_while_two_are_late = [&](Job& job) {
    if (job.rank() != 0) return late.wait(false);
    at::Tensor tensor = at::zeros({4});
    const auto outcome = capture([&] { job.collectives().all_reduce(tensor, Reduce::sum)->wait(); });
    late = true;
    late.notify_all();
    if (!outcome) throw Error(outcome.fault);
  };
  const Fault fault = fault_of_ranks(3, wait_while_two_are_late, {.data_deadline = std::chrono::milliseconds(100)});
  EXPECT_EQ(fault.code, Code::timeout);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("rank 1, 2 "), HasSubstr("all_reduce of 4 Float")));
}

TEST(ThreadCollectives, ARankThatReturnsWhileOthersNeedItIsNamedAtOnce) {
  const Fault fault = fault_of_ranks(3, [&](Job& job) {
    at::Tensor tensor = at::zeros({4});
    for (int round = 0; round < (job.rank() == 1 ? 2 : 3); ++round) job.collectives().all_reduce(tensor, Reduce::sum)->wait();
  });
  EXPECT_EQ(fault.code, Code::peer_lost);
  EXPECT_THAT(fault.what, AllOf(HasSubstr("rank 1 is gone"), HasSubstr("collective 2, all_reduce of 4 Float")));
}

TEST(RunRanks, OneRanksFailureEndsAllAndIsTheOneThatIsTold) {
  const Fault fault = fault_of_ranks(3, [&](Job& job) {
    if (job.rank() == 2) throw std::runtime_error("out of luck");
    at::Tensor tensor = at::zeros({4});
    if (job.rank() == 0) job.collectives().all_reduce(tensor, Reduce::sum)->wait();
    else barrier(job.comm(), "wait");
  });
  EXPECT_EQ(fault.rank, 2);
  EXPECT_THAT(fault.what, HasSubstr("out of luck"));
}

TEST(InTurn, GoesByRankAndOneThatThrowsEndsTheRound) {
  std::vector<int> order;
  run_ranks(4, [&](Job& job) {
    for (int round = 0; round < 3; ++round) job.in_turn([&] { order.push_back(job.rank()); });
  });
  EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
  const Fault fault = fault_of_ranks(3, [&](Job& job) {
    job.in_turn([&] {
      if (job.rank() == 1) throw Error({.code = Code::invalid_argument, .what = "not today"});
    });
  });
  EXPECT_EQ(fault.what, "not today");
}

}  // namespace
}  // namespace tessera
