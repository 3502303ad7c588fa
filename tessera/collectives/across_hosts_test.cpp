#include "tessera/collectives/across_hosts.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "tessera/collectives/forwarding_collectives.h"
#include "tessera/collectives/gloo_collectives.h"
#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

constexpr Milliseconds deadline = std::chrono::seconds(60);

// What `inner` does, but the cards by which ranks meet in memory reach this one with a fault in them.
class HardOfHearing final : public ForwardingCollectives {
 public:
  using ForwardingCollectives::ForwardingCollectives;
  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    auto work = inner().all_gather_into(full, shard, label);
    if (full.scalar_type() != at::kByte || shard.numel() <= size()) return work;  // no card: who is in which group
    work->wait();
    // A card begins with the name of where to come: nobody listens at this one.
    full.view({size(), shard.numel()}).select(1, 0).fill_('?');
    heard_wrongly_ = true;
    return work;
  }
  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    EXPECT_TRUE(heard_wrongly_) << "sockets, and memory was not tried";
    return inner().split(ranks);
  }

 private:
  bool heard_wrongly_ = false;
};

constexpr int nobody = -1;

// Four ranks, two on each of two hosts; rank `without`, which does not lead its host's, cannot share memory.
void on_two_hosts(const std::function<void(Collectives&)>& body, int without = nobody) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  auto comms = thread_comms(4, deadline);
  const auto outcomes = run_as_ranks(comms, [&](Comm& control) {
    Members all = all_members(control.rank(), control.size());
    auto sockets = gloo_collectives(store, control, all, deadline);
    if (control.rank() == without) sockets = std::make_unique<HardOfHearing>(std::move(sockets));
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

// One of each operation, in a tensor.
at::Tensor computed_in(Collectives& group, int seed) {
  const at::Tensor all = at::zeros({2 * group.size()}), mine = at::full({2}, seed + 0.5), sum = at::full({3}, seed + 0.25);
  const at::Tensor part = at::zeros({2}), whole = at::full({2 * group.size()}, seed * 1.5), word = at::full({2}, seed + 7.0);
  group.all_gather_into(all, mine)->wait();
  group.reduce_scatter_into(part, whole, Reduce::mean)->wait();
  group.all_reduce(sum, Reduce::sum)->wait();
  group.broadcast(word, 1)->wait();
  return at::cat({all, part, sum, word});
}

TEST(AcrossHosts, AllGroupsGoOverSocketsWhereOneRankCannotShareMemory) {
  std::vector<at::Tensor> in_memory(4);
  for (const int without : {nobody, 3, 1}) {
    on_two_hosts(
        [&](Collectives& ranks) {
          const auto row = ranks.split(ranks.rank() < 2 ? std::vector{0, 1} : std::vector{2, 3});
          const at::Tensor computed = computed_in(*row, ranks.rank());
          at::Tensor& expected = in_memory[static_cast<size_t>(ranks.rank())];
          if (without == nobody) expected = computed;
          EXPECT_TRUE(at::equal(computed, expected));
          EXPECT_EQ(looks_at_what_is_launched(*row), without == nobody);
        },
        without);
  }
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
