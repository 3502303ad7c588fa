#include "tessera/collectives/collectives.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <string>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "tessera/collectives/across_hosts.h"
#include "tessera/collectives/gloo_collectives.h"
#include "tessera/collectives/shared_collectives.h"
#include "tessera/collectives/thread_collectives.h"
#include "tessera/collectives/through_host.h"
#include "tessera/comm/thread_comm.h"
#include "tests/support/late_device.h"
#include "tests/support/moved_collectives.h"
#include "tests/support/run_as_ranks.h"

// What every Collectives promises, whatever carries it.
namespace tessera {
namespace {

struct CollectivesKind {
  std::string name;
  bool in_rank_order;  // reduces so, and looks at what each rank launched
  // Runs `body` as every rank at once, each in its own thread with its own Collectives, and returns what came of each.
  std::function<std::vector<Outcome<Done>>(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body)> run;
};
void PrintTo(const CollectivesKind& kind, std::ostream* out) { *out << kind.name; }

class CollectivesConformance : public testing::TestWithParam<CollectivesKind> {
 protected:
  void run(int ranks, const std::function<void(Collectives&)>& body) {
    for (const auto& outcome : run_into_trouble(ranks, std::chrono::seconds(60), body)) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
  std::vector<Outcome<Done>> run_into_trouble(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
    return GetParam().run(ranks, deadline, body);
  }
};

// `count` small numbers, other ones for every rank. Their sums are exact in every dtype, so that the order of adding does not show.
at::Tensor numbers_of(int rank, int64_t count, at::ScalarType dtype) {
  return (at::arange(count, at::kLong) * 3 + 5 * rank).remainder(16).to(dtype);
}
at::Tensor part_of(const at::Tensor& whole, int rank, int64_t count) { return whole.narrow(0, rank * count, count); }

const std::vector<at::ScalarType> carried{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,     at::kLong, at::kInt,
                                          at::kShort, at::kChar,   at::kByte, at::kComplexFloat, at::kBool};
const std::vector<at::ScalarType> averaged{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};
const std::vector<at::ScalarType> summed{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kChar, at::kByte};

at::Tensor sum_of_ranks(int ranks, int64_t count, at::ScalarType dtype) {
  at::Tensor sum = numbers_of(0, count, dtype);
  for (int r = 1; r < ranks; ++r) sum += numbers_of(r, count, dtype);
  return sum;
}
at::Tensor mean_of_ranks(int ranks, int64_t count, at::ScalarType dtype) {
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;  // scaled in float32, since 1/3 is not one of theirs
  return sum_of_ranks(ranks, count, half ? at::kFloat : dtype).mul_(1.0 / ranks).to(dtype);
}
at::Tensor largest_of_ranks(int ranks, int64_t count, at::ScalarType dtype) {
  at::Tensor largest = numbers_of(0, count, dtype);
  for (int r = 1; r < ranks; ++r) largest = largest.maximum(numbers_of(r, count, dtype));
  return largest;
}

TEST_P(CollectivesConformance, AGatherHasEveryShardInRankOrderWhateverTheDtype) {
  for (int n = 1; n <= 4; ++n) {
    run(n, [&](Collectives& ranks) {
      EXPECT_EQ(ranks.size(), n);
      for (const at::ScalarType dtype : carried) {
        const at::Tensor full = at::zeros({7 * n}, dtype);
        ranks.all_gather_into(full, numbers_of(ranks.rank(), 7, dtype))->wait();
        for (int r = 0; r < n; ++r) EXPECT_TRUE(part_of(full, r, 7).equal(numbers_of(r, 7, dtype))) << n << ' ' << r << ' ' << dtype;
      }
    });
  }
}

TEST_P(CollectivesConformance, AShardMayLieAtItsPlaceInTheWhole) {
  run(3, [](Collectives& ranks) {
    const at::Tensor full = at::zeros({15});
    const at::Tensor shard = part_of(full, ranks.rank(), 5);
    shard.copy_(numbers_of(ranks.rank(), 5, at::kFloat));
    ranks.all_gather_into(full, shard)->wait();
    for (int r = 0; r < 3; ++r) EXPECT_TRUE(part_of(full, r, 5).equal(numbers_of(r, 5, at::kFloat)));
  });
}

TEST_P(CollectivesConformance, AReduceScatterGivesEachRankItsPartOfTheReduction) {
  for (int n = 1; n <= 4; ++n) {
    run(n, [&](Collectives& ranks) {
      const auto reduced = [&](at::ScalarType dtype, Reduce how) {
        const at::Tensor shard = at::zeros({5}, dtype);
        ranks.reduce_scatter_into(shard, numbers_of(ranks.rank(), 5 * n, dtype), how)->wait();
        return shard;
      };
      const auto mine = [&](const at::Tensor& whole) { return part_of(whole, ranks.rank(), 5); };
      for (const at::ScalarType dtype : summed) {
        EXPECT_TRUE(reduced(dtype, Reduce::sum).equal(mine(sum_of_ranks(n, 5 * n, dtype)))) << n << ' ' << dtype;
        EXPECT_TRUE(reduced(dtype, Reduce::max).equal(mine(largest_of_ranks(n, 5 * n, dtype)))) << n << ' ' << dtype;
      }
      for (const at::ScalarType dtype : averaged) {
        EXPECT_TRUE(reduced(dtype, Reduce::mean).equal(mine(mean_of_ranks(n, 5 * n, dtype)))) << n << ' ' << dtype;
      }
    });
  }
}

TEST_P(CollectivesConformance, AnAllReduceGivesEveryRankTheWholeReductionInAnyShape) {
  for (int n = 1; n <= 4; ++n) {
    run(n, [&](Collectives& ranks) {
      const auto reduced = [&](at::ScalarType dtype, Reduce how) {
        const at::Tensor tensor = numbers_of(ranks.rank(), 6, dtype).view({2, 3});
        ranks.all_reduce(tensor, how)->wait();
        return tensor.view({6});
      };
      for (const at::ScalarType dtype : summed) {
        EXPECT_TRUE(reduced(dtype, Reduce::sum).equal(sum_of_ranks(n, 6, dtype))) << n << ' ' << dtype;
        EXPECT_TRUE(reduced(dtype, Reduce::max).equal(largest_of_ranks(n, 6, dtype))) << n << ' ' << dtype;
      }
      for (const at::ScalarType dtype : averaged)
        EXPECT_TRUE(reduced(dtype, Reduce::mean).equal(mean_of_ranks(n, 6, dtype))) << n << ' ' << dtype;
      const at::Tensor scalar = at::full({}, ranks.rank() + 1, at::kDouble);
      ranks.all_reduce(scalar, Reduce::sum)->wait();
      EXPECT_EQ(scalar.item<double>(), n * (n + 1) / 2);
    });
  }
}

TEST_P(CollectivesConformance, ABroadcastGivesEveryRankTheRootsValuesInAnyShape) {
  run(3, [](Collectives& ranks) {
    for (const at::ScalarType dtype : carried) {
      for (int root = 0; root < 3; ++root) {
        const at::Tensor tensor = numbers_of(ranks.rank(), 6, dtype).view({3, 2});
        ranks.broadcast(tensor, root)->wait();
        EXPECT_TRUE(tensor.view({6}).equal(numbers_of(root, 6, dtype))) << root << ' ' << dtype;
      }
    }
    const at::Tensor scalar = at::full({}, ranks.rank(), at::kLong);
    ranks.broadcast(scalar, 2)->wait();
    EXPECT_EQ(scalar.item<int64_t>(), 2);
  });
}

TEST_P(CollectivesConformance, TensorsWithoutElementsAreFine) {
  run(2, [](Collectives& ranks) {
    ranks.all_gather_into(at::zeros({0}), at::zeros({0}))->wait();
    ranks.reduce_scatter_into(at::zeros({0}), at::zeros({0}), Reduce::mean)->wait();
    ranks.all_reduce(at::zeros({4, 0}), Reduce::max)->wait();
    ranks.broadcast(at::zeros({0, 3}), 1)->wait();
    const at::Tensor one = at::full({1}, 1.0);
    ranks.all_reduce(one, Reduce::sum)->wait();
    EXPECT_EQ(one.item<float>(), 2);
  });
}

TEST_P(CollectivesConformance, ATensorThatWantsAGradientIsFilledAllTheSame) {
  run(2, [](Collectives& ranks) {
    const at::Tensor shard = at::full({2}, ranks.rank() + 1.0).requires_grad_();
    const at::Tensor full = at::zeros({4});
    ranks.all_gather_into(full, shard)->wait();
    EXPECT_EQ(full.sum().item<float>(), 6);
    EXPECT_FALSE(full.requires_grad());
    ranks.all_reduce(shard, Reduce::mean)->wait();
    EXPECT_EQ(shard.detach()[0].item<float>(), 1.5);
  });
}

TEST_P(CollectivesConformance, SeveralAreUnderWayAndEachRankWaitsInItsOwnOrder) {
  run(3, [](Collectives& ranks) {
    for (int round = 0; round < 20; ++round) {
      const at::Tensor full = at::zeros({12});
      const at::Tensor shard = at::zeros({4});
      const at::Tensor tensor = numbers_of(ranks.rank(), 9, at::kLong);
      std::vector<std::unique_ptr<Work>> works;
      works.push_back(ranks.all_gather_into(full, numbers_of(ranks.rank(), 4, at::kFloat)));
      works.push_back(ranks.reduce_scatter_into(shard, numbers_of(ranks.rank(), 12, at::kFloat), Reduce::sum));
      works.push_back(ranks.all_reduce(tensor, Reduce::max));
      for (int k = 0; k < 3; ++k) works[static_cast<size_t>((k + ranks.rank()) % 3)]->wait();
      EXPECT_TRUE(part_of(full, 2, 4).equal(numbers_of(2, 4, at::kFloat)));
      EXPECT_TRUE(shard.equal(part_of(sum_of_ranks(3, 12, at::kFloat), ranks.rank(), 4)));
      EXPECT_TRUE(tensor.equal(largest_of_ranks(3, 9, at::kLong)));
    }
  });
}

TEST_P(CollectivesConformance, ARankMayLaunchTheNextBeforeAnotherLaunchedThis) {
  std::atomic<bool> ahead = false;
  run(2, [&](Collectives& ranks) {
    if (ranks.rank() == 1) ahead.wait(false);
    const at::Tensor first = at::full({3}, ranks.rank() + 1.0);
    const at::Tensor second = at::full({3}, ranks.rank() + 10.0);
    const auto one = ranks.all_reduce(first, Reduce::sum);
    const auto two = ranks.broadcast(second, 1);
    ahead = true;
    ahead.notify_all();
    two->wait();
    one->wait();
    EXPECT_EQ(first[2].item<float>(), 3);
    EXPECT_EQ(second[2].item<float>(), 11);
  });
}

TEST_P(CollectivesConformance, TensorsAreTheRanksOwnAgainOnceItsWaitReturns) {
  run(3, [](Collectives& ranks) {
    const at::Tensor shard = at::zeros({1000});
    const at::Tensor full = at::zeros({3000});
    const at::Tensor part = at::zeros({1000});
    for (int round = 0; round < 200; ++round) {
      shard.fill_(ranks.rank() + round);
      ranks.all_gather_into(full, shard)->wait();
      shard.fill_(-1);
      for (int r = 0; r < 3; ++r) EXPECT_TRUE(part_of(full, r, 1000).equal(at::full({1000}, r + round, at::kFloat)));
      ranks.reduce_scatter_into(part, full, Reduce::max)->wait();
      full.fill_(-1);
      EXPECT_TRUE(part.equal(at::full({1000}, ranks.rank() + round, at::kFloat)));
    }
  });
}

TEST_P(CollectivesConformance, OddSizesGoThroughWhole) {
  for (int n = 1; n <= 4; ++n) {
    run(n, [&](Collectives& ranks) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kChar}) {
        for (const int64_t count : {1, 3, 63, 64, 65, 1023, 4099}) {
          const std::string at = std::to_string(n) + " ranks, " + std::to_string(count) + " " + c10::toString(dtype);
          const at::Tensor full = at::zeros({count * n}, dtype);
          ranks.all_gather_into(full, numbers_of(ranks.rank(), count, dtype))->wait();
          for (int r = 0; r < n; ++r) EXPECT_TRUE(part_of(full, r, count).equal(numbers_of(r, count, dtype))) << at;
          const at::Tensor shard = at::zeros({count}, dtype);
          ranks.reduce_scatter_into(shard, numbers_of(ranks.rank(), count * n, dtype), Reduce::sum)->wait();
          EXPECT_TRUE(shard.equal(part_of(sum_of_ranks(n, count * n, dtype), ranks.rank(), count))) << at;
          const at::Tensor tensor = numbers_of(ranks.rank(), count, dtype);
          ranks.all_reduce(tensor, Reduce::sum)->wait();
          EXPECT_TRUE(tensor.equal(sum_of_ranks(n, count, dtype))) << at;
          const at::Tensor word = numbers_of(ranks.rank(), count, dtype);
          ranks.broadcast(word, n - 1)->wait();
          EXPECT_TRUE(word.equal(numbers_of(n - 1, count, dtype))) << at;
        }
      }
    });
  }
}

TEST_P(CollectivesConformance, HalvesAreSummedInFloat32AndRoundedOnce) {
  if (!GetParam().in_rank_order) GTEST_SKIP() << "sums halves in their own dtype";
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    // Half of what lies between two numbers of the dtype there: added one by one to the first, such ones vanish.
    const double large = dtype == at::kHalf ? 2048 : 256;
    run(4, [&](Collectives& ranks) {
      const auto value = [&](int rank) { return rank == 0 ? large : 1.0; };
      const auto expected = [&](double scale) { return at::full({}, (large + 3) * scale, at::kFloat).to(dtype).item<float>(); };
      ASSERT_NE(expected(1), large);
      const at::Tensor tensor = at::full({1000}, value(ranks.rank()), dtype);
      ranks.all_reduce(tensor, Reduce::sum)->wait();
      EXPECT_EQ(tensor[999].item<float>(), expected(1));
      const at::Tensor shard = at::zeros({300}, dtype);
      ranks.reduce_scatter_into(shard, at::full({1200}, value(ranks.rank()), dtype), Reduce::mean)->wait();
      EXPECT_EQ(shard[299].item<float>(), expected(0.25));
    });
  }
}

TEST_P(CollectivesConformance, RanksThatLaunchDifferentThingsAreToldWhichLaunchedWhat) {
  if (!GetParam().in_rank_order) GTEST_SKIP() << "looks only where it is told to";
  using Launch = std::function<std::unique_ptr<Work>(Collectives&)>;
  const auto gather = [](int64_t count, const char* label) {
    return [=](Collectives& ranks) { return ranks.all_gather_into(at::zeros({count * 2}), at::zeros({count}), label); };
  };
  const auto reduce = [](Reduce how) { return [=](Collectives& ranks) { return ranks.all_reduce(at::zeros({4}), how, "loss"); }; };
  const std::pair<Launch, Launch> different[] = {{gather(4, "h.2"), gather(4, "h.3")},
                                                 {gather(4, "h.2"), gather(5000, "h.2")},
                                                 {gather(4, "h.2"), reduce(Reduce::sum)},
                                                 {reduce(Reduce::mean), reduce(Reduce::max)}};
  for (const auto& pair : different) {
    const auto outcomes = run_into_trouble(2, std::chrono::seconds(60), [&](Collectives& ranks) {
      for (int k = 0; k < 16; ++k) ranks.all_reduce(at::zeros({1}), Reduce::sum)->wait();
      const auto& [one, other] = pair;
      (ranks.rank() == 0 ? one : other)(ranks)->wait();
    });
    for (const auto& outcome : outcomes) {
      EXPECT_EQ(outcome.fault.code, Code::mismatch) << describe(outcome.fault);
      EXPECT_THAT(outcome.fault.what, testing::AllOf(testing::HasSubstr("rank 0 launched "), testing::HasSubstr("rank 1 launched "),
                                                     testing::HasSubstr("as its 17th")));
    }
  }
}

TEST_P(CollectivesConformance, AGroupComputesAmongItsOwn) {
  run(4, [](Collectives& ranks) {
    const int parity = ranks.rank() % 2;
    const auto group = ranks.split({parity, parity + 2});
    EXPECT_EQ(group->size(), 2);
    EXPECT_EQ(group->rank(), ranks.rank() / 2);
    const at::Tensor sum = at::full({3}, ranks.rank(), at::kLong);
    group->all_reduce(sum, Reduce::sum)->wait();
    EXPECT_EQ(sum[2].item<int64_t>(), 2 * parity + 2);
    const at::Tensor full = at::zeros({10});
    group->all_gather_into(full, numbers_of(ranks.rank(), 5, at::kFloat))->wait();
    for (int r = 0; r < 2; ++r) EXPECT_TRUE(part_of(full, r, 5).equal(numbers_of(parity + 2 * r, 5, at::kFloat)));
    const at::Tensor word = at::full({1}, ranks.rank(), at::kLong);
    group->broadcast(word, 1)->wait();
    EXPECT_EQ(word.item<int64_t>(), parity + 2);
    ranks.all_reduce(sum, Reduce::sum)->wait();  // all of them still work
    EXPECT_EQ(sum[0].item<int64_t>(), 12);
  });
}

TEST_P(CollectivesConformance, GroupsMayBeOfAnySizeAndAGroupMaySplitAgain) {
  run(4, [](Collectives& ranks) {
    const auto three = ranks.split(ranks.rank() == 3 ? std::vector{3} : std::vector{0, 1, 2});
    const at::Tensor one = at::full({1}, 1, at::kLong);
    three->all_reduce(one, Reduce::sum)->wait();
    EXPECT_EQ(one.item<int64_t>(), ranks.rank() == 3 ? 1 : 3);
    const auto again = three->split(three->rank() == 1 ? std::vector{1} : (three->size() == 1 ? std::vector{0} : std::vector{0, 2}));
    EXPECT_EQ(again->size(), ranks.rank() == 1 || ranks.rank() == 3 ? 1 : 2);
    const at::Tensor rank = at::full({1}, ranks.rank(), at::kLong);
    again->all_reduce(rank, Reduce::max)->wait();
    EXPECT_EQ(rank.item<int64_t>(), ranks.rank() == 0 ? 2 : ranks.rank());
  });
}

TEST_P(CollectivesConformance, WorksOfSeveralGroupsAreWaitedForInAnyOrder) {
  run(4, [](Collectives& ranks) {
    const int r = ranks.rank();
    const auto row = ranks.split(r < 2 ? std::vector{0, 1} : std::vector{2, 3});
    const auto column = ranks.split({r % 2, r % 2 + 2});
    for (int round = 0; round < 10; ++round) {
      const at::Tensor across = at::full({100}, r, at::kLong), down = at::full({100}, r, at::kLong);
      std::unique_ptr<Work> works[] = {row->all_reduce(across, Reduce::sum), column->all_reduce(down, Reduce::sum)};
      const int first = r == 0 || r == 3 ? 1 : 0;  // each waits for one that waits for another
      works[first]->wait();
      works[1 - first]->wait();
      EXPECT_EQ(across[99].item<int64_t>(), r < 2 ? 1 : 5);
      EXPECT_EQ(down[99].item<int64_t>(), 2 * (r % 2) + 2);
    }
  });
}

TEST_P(CollectivesConformance, GroupsThatDoNotFitTogetherAreRefusedOnEveryRankAlike) {
  const std::function<std::vector<int>(int)> wrong[] = {
      [](int r) { return r == 0 ? std::vector{0, 1} : std::vector{0, 1, 2}; },  // they overlap
      [](int r) { return r == 2 ? std::vector{0, 1} : std::vector{0, 1}; },     // without itself
      [](int r) { return r == 1 ? std::vector{2, 1} : std::vector{r}; },        // not ascending
      [](int r) { return r == 1 ? std::vector{1, 3} : std::vector{r}; },        // no such rank
      [](int r) { return r == 1 ? std::vector<int>{} : std::vector{r}; }};
  for (const auto& ranks_of : wrong) {
    run(3, [&](Collectives& ranks) {
      const auto split = capture([&] { ranks.split(ranks_of(ranks.rank())); });
      EXPECT_EQ(split.fault.code, Code::invalid_argument);
      EXPECT_THAT(split.fault.what, testing::HasSubstr("the group of rank "));
      const at::Tensor one = at::full({1}, 1.0);
      ranks.all_reduce(one, Reduce::sum)->wait();
      EXPECT_EQ(one.item<float>(), 3);
    });
  }
}

TEST_P(CollectivesConformance, AnAbortReachesWhoWaitsInAGroup) {
  const Fault fault{.code = Code::aborted, .what = "rank 3 failed: no memory"};
  std::atomic<int> told = 0, there = 0;
  run(4, [&](Collectives& ranks) {
    const auto group = ranks.split(ranks.rank() == 3 ? std::vector{3} : std::vector{0, 1, 2});
    ++there;
    there.notify_all();
    if (ranks.rank() == 3) {
      for (int now = there; now < 4; now = there) there.wait(now);
      return ranks.abort(fault);
    }
    if (ranks.rank() == 2) {  // stays away, but does not leave
      for (int now = told; now < 2; now = told) told.wait(now);
      return;
    }
    const auto waited = capture([&] { group->all_reduce(at::zeros({4}), Reduce::sum)->wait(); });
    EXPECT_EQ(waited.fault, fault);
    ++told;
    told.notify_all();
  });
}

TEST_P(CollectivesConformance, AllRanksAndAllRunsHaveTheSameBits) {
  constexpr int n = 4;
  std::vector<at::Tensor> values;
  for (int r = 0; r < n; ++r) values.push_back(at::rand({4000}) * std::pow(10.0, r));
  std::vector<at::Tensor> reduced(n);
  const auto reduce = [&](Collectives& ranks) {
    at::Tensor& mine = reduced[static_cast<size_t>(ranks.rank())];
    mine = values[static_cast<size_t>(ranks.rank())].clone();
    ranks.all_reduce(mine, Reduce::mean)->wait();
  };
  run(n, reduce);
  const at::Tensor first = reduced.front().clone();
  for (int round = 0; round < 5; ++round) {
    run(n, reduce);
    for (const at::Tensor& tensor : reduced) EXPECT_TRUE(tensor.equal(first));
  }
}

TEST_P(CollectivesConformance, WhatDoesNotFitIsRefusedAndTheNextCollectiveIsFine) {
  run(2, [](Collectives& ranks) {
    const auto code_of = [](const auto& launch) { return capture([&] { launch(); }).fault.code; };
    const at::Tensor four = at::zeros({4});
    const at::Tensor two = at::zeros({2});
    const at::Tensor square = at::zeros({2, 2});
    EXPECT_EQ(code_of([&] { ranks.all_gather_into(at::zeros({5}), two); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_gather_into(square, two); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_gather_into(at::zeros({4}, at::kDouble), two); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_gather_into({}, two); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.reduce_scatter_into(two, at::zeros({2}), Reduce::sum); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.reduce_scatter_into(four.narrow(0, 0, 2), four, Reduce::sum); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_reduce(square.t(), Reduce::sum); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_reduce({}, Reduce::sum); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.broadcast(two, 2); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.broadcast(two, -1); }), Code::invalid_argument);
    EXPECT_EQ(code_of([&] { ranks.all_reduce(at::zeros({2}, at::kLong), Reduce::mean); }), Code::unsupported);
    EXPECT_EQ(code_of([&] { ranks.all_reduce(at::zeros({2}, at::kBool), Reduce::sum); }), Code::unsupported);
    EXPECT_EQ(
        code_of([&] { ranks.reduce_scatter_into(at::zeros({1}, at::kComplexFloat), at::zeros({2}, at::kComplexFloat), Reduce::max); }),
        Code::unsupported);
    four.fill_(1);
    ranks.all_reduce(four, Reduce::sum)->wait();
    EXPECT_EQ(four[3].item<float>(), 2);
  });
}

TEST_P(CollectivesConformance, AbortEndsTheWaitOfEveryRankAndLastsForEver) {
  const Fault fault{.code = Code::aborted, .what = "rank 2 failed: no memory"};
  const auto outcomes = run_into_trouble(3, std::chrono::seconds(60), [&](Collectives& ranks) {
    const at::Tensor tensor = at::zeros({4});
    if (ranks.rank() == 2) ranks.abort(fault);
    for (int k = 0; k < 2; ++k) EXPECT_EQ(capture([&] { ranks.all_reduce(tensor, Reduce::sum)->wait(); }).fault, fault);
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST_P(CollectivesConformance, TheDeadlineEndsTheWaitForARankThatNeverLaunches) {
  std::atomic<bool> over = false;
  const auto outcomes = run_into_trouble(2, std::chrono::milliseconds(300), [&](Collectives& ranks) {
    if (ranks.rank() == 1) return over.wait(false);
    const auto waited = capture([&] { ranks.all_gather_into(at::zeros({8}), at::zeros({4}))->wait(); });
    over = true;
    over.notify_all();
    if (!waited) throw Error(waited.fault);
  });
  EXPECT_EQ(outcomes[0].fault.code, Code::timeout);
  EXPECT_THAT(outcomes[0].fault.what, testing::HasSubstr("all_gather of 4 Float"));
}

// As run_ranks() does, but without its Job.
std::vector<Outcome<Done>> run_over_threads(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
  auto collectives = thread_collectives(ranks, deadline);
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& comm) { body(*collectives[static_cast<size_t>(comm.rank())]); });
}

// As above, of tensors on a device of each rank's own.
std::vector<Outcome<Done>> run_through_host(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
  auto collectives = thread_collectives(ranks, deadline);
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& comm) {
    auto mine = through_host(std::move(collectives[static_cast<size_t>(comm.rank())]));
    MovedCollectives moved(std::move(mine), late_device(comm.rank()));
    body(moved);
  });
}

// Each rank has its own sockets and its own group, as a process would; only the store and the control plane are in memory.
std::vector<Outcome<Done>> run_over_gloo(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& control) {
    const auto collectives = gloo_collectives(store, control, all_members(control.rank(), control.size()), deadline);
    body(*collectives);
  });
}

// The first two ranks on one host, the others on another.
std::vector<Outcome<Done>> run_across_hosts(int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  Comms comms = thread_comms(ranks);
  return run_as_ranks(comms, [&](Comm& control) {
    const Members all = all_members(control.rank(), control.size());
    std::vector<int> hosts;
    for (const int r : all.ranks) hosts.push_back(r < 2 ? 0 : 2);
    const auto collectives = across_hosts(gloo_collectives(store, control, all, deadline), all, hosts, control, deadline);
    body(*collectives);
  });
}

// As above: only the control plane would be another between processes.
auto run_over_shared_memory(const SharedSlots& slots) {
  return [slots](int ranks, Milliseconds deadline, const std::function<void(Collectives&)>& body) {
    Comms comms = thread_comms(ranks);
    return run_as_ranks(comms, [&](Comm& control) {
      const auto collectives = shared_collectives(control, deadline, slots);
      body(*collectives);
    });
  };
}

INSTANTIATE_TEST_SUITE_P(
    Transports, CollectivesConformance,
    testing::Values(CollectivesKind{"threads", true, run_over_threads}, CollectivesKind{"gloo", false, run_over_gloo},
                    CollectivesKind{"through_host", true, run_through_host}, CollectivesKind{"across_hosts", false, run_across_hosts},
                    CollectivesKind{"shared_memory", true, run_over_shared_memory({})},
                    CollectivesKind{"shared_memory_in_small_pieces", true, run_over_shared_memory({.count = 3, .bytes = 256})}),
    [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tessera
