// What shared memory promises beyond what every Collectives does (collectives_test.cpp).
#include "tessera/collectives/shared_collectives.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using testing::HasSubstr;

void run(int ranks, const std::function<void(Collectives&)>& body, const SharedSlots& slots = {}) {
  Comms comms = thread_comms(ranks);
  const auto outcomes = run_as_ranks(comms, [&](Comm& control) {
    const auto collectives = shared_collectives(control, std::chrono::seconds(60), slots);
    body(*collectives);
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST(SharedCollectives, CarryOnWhileTheRanksDoSomethingElse) {
  run(2, [](Collectives& ranks) {
    const at::Tensor full = at::zeros({200'000}), shard = at::full({100'000}, ranks.rank() + 1.0);
    const auto work = ranks.all_gather_into(full, shard);
    // The last that arrives, looked at as nobody should: without waiting.
    const float* last = full.const_data_ptr<float>() + (ranks.rank() == 0 ? 199'999 : 99'999);
    const auto until = Deadline::after(std::chrono::seconds(30));
    while (std::atomic_ref(*const_cast<float*>(last)).load() == 0 && !until.expired()) std::this_thread::yield();
    EXPECT_FALSE(until.expired());
    work->wait();
    EXPECT_EQ(full.sum().item<float>(), 300'000);
  });
}

TEST(SharedCollectives, TakeAFixedAmountOfMemoryARank) {
  EXPECT_LE(SharedExchange::region_bytes(2, {}), size_t{9} << 20);
  EXPECT_LE(SharedExchange::region_bytes(64, {}), size_t{64} * (size_t{4} << 20) + (size_t{1} << 20));
}

TEST(SharedCollectives, ALastWordIsHeardThoughWhoSaidItHasLeft) {
  for (int round = 0; round < 20; ++round) {
    run(2,
        [](Collectives& ranks) {
          const at::Tensor word = at::full({300}, ranks.rank() + 1.0);
          ranks.broadcast(word, 0)->wait();
          EXPECT_EQ(word[299].item<float>(), 1);
        },
        {.count = 8, .bytes = 256});  // all of it fits, so that rank 0 need not wait for the other
  }
}

TEST(SharedCollectives, ARankThatLeavesBeforeAnOperationIsNamed) {
  run(3, [](Collectives& ranks) {
    if (ranks.rank() == 1) return;
    const auto waited = capture([&] { ranks.all_reduce(at::zeros({4}), Reduce::sum, "loss")->wait(); });
    EXPECT_EQ(waited.fault.code, Code::peer_lost);
    EXPECT_THAT(waited.fault.what, HasSubstr("is gone: it left before all_reduce of loss (4 Float)"));
  });
}

TEST(SharedCollectives, AWorkThatOutlivesThemSaysSo) {
  Comms comms = thread_comms(2);
  std::unique_ptr<Work> left_behind;
  run_as_ranks(comms, [&](Comm& control) {
    const auto collectives = shared_collectives(control, std::chrono::seconds(60));
    if (control.rank() == 0) left_behind = collectives->all_reduce(at::zeros({4}), Reduce::sum);
    barrier(control, "launched");
  });
  EXPECT_EQ(capture([&] { left_behind->wait(); }).fault.code, Code::aborted);
}

TEST(SharedCollectives, RefuseSlotsThatHaveNoPartForEachRank) {
  Comms comms = thread_comms(3);
  for (const auto& outcome :
       run_as_ranks(comms, [&](Comm& control) { shared_collectives(control, std::chrono::seconds(60), {.count = 3, .bytes = 128}); })) {
    EXPECT_EQ(outcome.fault.code, Code::unsupported);
  }
}

}  // namespace
}  // namespace tessera
