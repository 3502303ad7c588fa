#include "tessera/collectives/delayed_collectives.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/collectives/job.h"
#include "tessera/collectives/thread_collectives.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// As a job's data plane: each rank's is found again through its Collectives.
JobOptions over(const Link& link) {
  return {.around = [link](auto inner) { return std::make_unique<DelayedCollectives>(std::move(inner), link); }};
}
DelayedCollectives& delayed(const Job& job) { return dynamic_cast<DelayedCollectives&>(job.collectives()); }

TEST(DelayedCollectives, EndNoSoonerThanTheLinkIsThroughInTheOrderOfTheirLaunch) {
  run_ranks(
      2,
      [](Job& job) {
        const auto begun = Clock::now();
        const at::Tensor full = at::zeros({2000}), shard = at::full({1000}, job.rank() + 1.0);  // 4000 bytes: 4 ms
        const auto first = job.collectives().all_gather_into(full, shard, "h.0");
        const auto second = job.collectives().all_reduce(shard, Reduce::sum, "h.1");  // 4000 more
        second->wait();
        EXPECT_GE(Clock::now() - begun, milliseconds(4 + 4 + 10));
        first->wait();
        EXPECT_EQ(full[1999].item<float>(), 2);
        EXPECT_EQ(shard[0].item<float>(), 3);
      },
      over({.latency = milliseconds(10), .bytes_per_second = 1e6}));
}

TEST(DelayedCollectives, RecordEachOperationAndCountByKind) {
  run_ranks(
      2,
      [](Job& job) {
        const at::Tensor full = at::zeros({8}), shard = at::zeros({4});
        for (const char* label : {"h.0", "h.1"}) job.collectives().all_gather_into(full, shard, label)->wait();
        job.collectives().reduce_scatter_into(shard, full, Reduce::mean, "h.1")->wait();
        job.collectives().broadcast(shard, 0);
        const auto records = delayed(job).records();
        ASSERT_EQ(records.size(), 4U);
        EXPECT_EQ(records[1].number, 1U);
        EXPECT_EQ(records[1].kind, CollectiveKind::all_gather);
        EXPECT_EQ(records[1].label, "h.1");
        EXPECT_EQ(records[1].bytes, 16);
        EXPECT_LE(records[1].launched, records[1].waited);
        EXPECT_LE(records[1].waited, records[1].completed);
        EXPECT_EQ(records[3].completed, CollectiveRecord::Time());  // nobody waited
        const auto counts = delayed(job).counts();
        EXPECT_EQ(counts.at(CollectiveKind::all_gather).operations, 2);
        EXPECT_EQ(counts.at(CollectiveKind::all_gather).bytes, 32);
        EXPECT_EQ(counts.at(CollectiveKind::reduce_scatter).bytes, 16);
        EXPECT_FALSE(counts.contains(CollectiveKind::all_reduce));
      },
      over({}));
}

TEST(DelayedCollectives, MayCarryNothingAtAll) {
  run_ranks(
      2,
      [](Job& job) {
        if (job.rank() == 1) return;  // nobody is needed
        const at::Tensor full = at::full({8}, 7.0);
        job.collectives().all_gather_into(full, at::zeros({4}))->wait();
        EXPECT_TRUE(full.equal(at::full({8}, 7.0)));
        EXPECT_EQ(capture([&] { job.collectives().all_gather_into(full, at::zeros({5})); }).fault.code, Code::invalid_argument);
      },
      over({.carries = false}));
}

TEST(DelayedCollectives, DelayTheirGroupsToo) {
  run_ranks(
      2,
      [](Job& job) {
        const auto alone = job.collectives().split({job.rank()});
        const auto begun = Clock::now();
        alone->all_reduce(at::zeros({1}), Reduce::sum)->wait();
        EXPECT_GE(Clock::now() - begun, milliseconds(5));
      },
      over({.latency = milliseconds(5)}));
}

}  // namespace
}  // namespace tessera
