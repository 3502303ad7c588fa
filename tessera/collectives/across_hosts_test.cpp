#include "tessera/collectives/across_hosts.h"

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

constexpr Milliseconds deadline = std::chrono::seconds(60);

// Four ranks, two on each of two hosts.
void on_two_hosts(const std::function<void(Collectives&)>& body) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  auto comms = thread_comms(4, deadline);
  const auto outcomes = run_as_ranks(comms, [&](Comm& control) {
    Members all = all_members(control.rank(), control.size());
    auto sockets = gloo_collectives(store, control, all, deadline);
    const auto ranks = across_hosts(std::move(sockets), std::move(all), {0, 0, 2, 2}, control, deadline);
    body(*ranks);
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

// Shared memory always looks at what each rank launched, and Gloo alone never does.
bool looks_at_what_is_launched(Collectives& group) {
  const at::Tensor full = at::zeros({group.size()});
  const auto launched = capture([&] { group.all_gather_into(full, at::full({1}, 1.0), "of " + std::to_string(group.rank()))->wait(); });
  return !launched && launched.fault.code == Code::mismatch;
}

TEST(AcrossHosts, AGroupWithinAHostSharesMemory) {
  on_two_hosts([](Collectives& ranks) {
    const auto row = ranks.split(ranks.rank() < 2 ? std::vector{0, 1} : std::vector{2, 3});
    const at::Tensor sum = at::full({3}, ranks.rank());
    row->all_reduce(sum, Reduce::sum)->wait();
    EXPECT_EQ(sum[2].item<int>(), ranks.rank() < 2 ? 1 : 5);
    EXPECT_TRUE(looks_at_what_is_launched(*row));
  });
}

TEST(AcrossHosts, GroupsGoOverSocketsWhereOneOfThemHasTwoHosts) {
  on_two_hosts([](Collectives& ranks) {
    const bool alone = ranks.rank() == 1;
    const auto group = ranks.split(alone ? std::vector{1} : std::vector{0, 2, 3});
    EXPECT_EQ(group->size(), alone ? 1 : 3);
    const at::Tensor sum = at::full({3}, ranks.rank());
    group->all_reduce(sum, Reduce::sum)->wait();
    EXPECT_EQ(sum[2].item<int>(), alone ? 1 : 5);
    if (alone) return;
    EXPECT_FALSE(looks_at_what_is_launched(*group));
    // And a group of that one shares memory where it can.
    const auto pair = group->split(group->rank() == 0 ? std::vector{0} : std::vector{1, 2});
    if (ranks.rank() >= 2) {
      EXPECT_TRUE(looks_at_what_is_launched(*pair));
    }
  });
}

}  // namespace
}  // namespace tessera
