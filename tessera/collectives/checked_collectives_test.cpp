#include "tessera/collectives/checked_collectives.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "tessera/collectives/gloo_collectives.h"
#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using testing::HasSubstr;

std::vector<Outcome<Done>> run_checked_over_gloo(int ranks, const std::function<void(Collectives&)>& body) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& control) {
    const Members all = all_members(control.rank(), control.size());
    const auto checked = checked_collectives(gloo_collectives(store, control, all, std::chrono::seconds(60)), all.ranks);
    body(*checked);
  });
}

TEST(CheckedCollectives, SayOverGlooWhichRankLaunchedWhatBeforeAnythingBegins) {
  const auto outcomes = run_checked_over_gloo(3, [](Collectives& ranks) {
    const at::Tensor sum = at::full({4}, 1.0);
    ranks.all_reduce(sum, Reduce::sum, "loss")->wait();
    EXPECT_EQ(sum[3].item<float>(), 3);
    const at::Tensor full = at::full({3 * 1000}, 7.0);
    const auto launched = capture([&] { ranks.all_gather_into(full, at::zeros({1000}), ranks.rank() == 1 ? "h.3" : "h.2")->wait(); });
    EXPECT_EQ(launched.fault.code, Code::mismatch);
    EXPECT_THAT(launched.fault.what, HasSubstr("rank 1 launched all_gather of h.3 (1000 Float)"));
    EXPECT_THAT(launched.fault.what, HasSubstr("launched all_gather of h.2 (1000 Float)"));
    EXPECT_THAT(launched.fault.what, HasSubstr("as its 2nd"));
    EXPECT_TRUE(full.equal(at::full({3 * 1000}, 7.0)));
    EXPECT_EQ(capture([&] { ranks.all_reduce(sum, Reduce::sum); }).fault, launched.fault);
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST(CheckedCollectives, CheckTheirGroupsByTheJobsNumbers) {
  const auto outcomes = run_checked_over_gloo(3, [](Collectives& ranks) {
    const auto group = ranks.split(ranks.rank() == 0 ? std::vector{0} : std::vector{1, 2});
    if (ranks.rank() == 0) return;
    const auto launched = capture([&] { group->broadcast(at::zeros({2}), ranks.rank() - 1, "seed")->wait(); });
    EXPECT_EQ(launched.fault.code, Code::mismatch);
    EXPECT_THAT(launched.fault.what, testing::AllOf(HasSubstr("rank 1 launched"), HasSubstr("rank 2 launched"), HasSubstr("root")));
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

}  // namespace
}  // namespace tessera
