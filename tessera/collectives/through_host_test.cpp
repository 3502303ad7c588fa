// Beside what collectives_test.cpp asks of every transport.
#include "tessera/collectives/through_host.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/collectives/job.h"
#include "tests/support/late_device.h"

namespace tessera {
namespace {

at::TensorOptions on_device_of(const Job& job) { return at::TensorOptions(late_device(job.rank())); }

TEST(ThroughHost, RanksOfAJobReduceWhatIsOnTheirDevices) {
  run_ranks(3, [](Job& job) {
    const at::Tensor mine = at::ones({5}, on_device_of(job)) * (job.rank() + 1);
    job.collectives().all_reduce(mine, Reduce::sum)->wait();
    EXPECT_EQ(mine.device(), late_device(job.rank()));
    EXPECT_TRUE(at::equal(mine.cpu(), at::ones({5}) * 6));
  });
}

TEST(ThroughHost, ARankAloneTouchesNoHostMemory) {
  run_ranks(1, [](Job& job) {
    const at::Tensor full = at::zeros({3}, on_device_of(job));
    const at::Tensor shard = at::ones({3}, on_device_of(job));
    const int64_t before = late_copies(late_device());
    job.collectives().all_gather_into(full, shard)->wait();
    job.collectives().all_reduce(full, Reduce::mean)->wait();
    job.collectives().reduce_scatter_into(shard, full * 2, Reduce::sum)->wait();
    job.collectives().broadcast(shard, 0)->wait();
    EXPECT_EQ(late_copies(late_device()), before);
    EXPECT_TRUE(at::equal(shard.cpu(), at::ones({3}) * 2));
  });
}

TEST(ThroughHost, TheResultIsCopiedBackBehindTheRanksBack) {
  if (at::getAccelerator() != late_device().type()) GTEST_SKIP() << "memory is pinned for real GPUs here";
  run_ranks(2, [](Job& job) {
    const at::Tensor full = at::zeros({6}, on_device_of(job));
    const at::Tensor shard = at::arange(3, on_device_of(job).dtype(at::kFloat)) + 3 * job.rank();
    const int64_t before = late_copies(late_device(job.rank()));
    job.collectives().all_gather_into(full, shard)->wait();
    EXPECT_GT(late_copies(late_device(job.rank())), before);
    EXPECT_TRUE(at::equal(full.cpu(), at::arange(6, at::kFloat)));
  });
}

TEST(ThroughHost, ATensorInHostMemoryPassesAsItIs) {
  run_ranks(2, [](Job& job) {
    const at::Tensor sum = at::ones({4});
    job.collectives().all_reduce(sum, Reduce::sum)->wait();
    EXPECT_TRUE(at::equal(sum, at::ones({4}) * 2));
  });
}

TEST(ThroughHost, TensorsOfOneOperationAreOnOneDevice) {
  run_ranks(2, [](Job& job) {
    const auto mixed = [&](at::Device full, at::Device shard) {
      const auto launched = capture(
          [&] { job.collectives().all_gather_into(at::zeros({4}, at::TensorOptions(full)), at::zeros({2}, at::TensorOptions(shard))); });
      EXPECT_EQ(launched.fault.code, Code::invalid_argument);
      EXPECT_THAT(launched.fault.what, testing::HasSubstr("and full on"));
    };
    mixed(late_device(0), at::kCPU);
    mixed(at::kCPU, late_device(0));
    mixed(late_device(0), late_device(1));
  });
}

}  // namespace
}  // namespace tessera
