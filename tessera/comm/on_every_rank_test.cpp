#include "tessera/comm/on_every_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using testing::ElementsAre;

TEST(RootCause, IsTheFaultThatIsNotAboutOthers) {
  const Fault told{.code = Code::aborted, .what = "rank 2 failed"};
  const Fault gone{.code = Code::peer_lost, .what = "rank 2 is gone"};
  const Fault full{.code = Code::no_space, .what = "disk full"};
  const Fault cause = root_cause({{0, told}, {1, gone}, {2, full}, {3, told}}, Phase::write);
  EXPECT_EQ(cause, (Fault{.code = Code::no_space, .what = "disk full", .rank = 2, .phase = Phase::write}));
}

TEST(RootCause, CountsThoseThatFailedAlikeAndNamesTheLowest) {
  const Fault full{.code = Code::no_space, .what = "disk full"};
  const Fault bad{.code = Code::io, .what = "disk broken"};
  EXPECT_EQ(root_cause({{5, full}, {3, bad}, {1, full}, {7, full}}, Phase::write),
            (Fault{.code = Code::no_space, .what = "disk full", .rank = 1, .phase = Phase::write, .same_on = 2}));
}

TEST(RootCause, KeepsARankAndAPhaseThatAreThere) {
  const Fault known{.code = Code::io, .what = "disk broken", .rank = 9, .phase = Phase::read};
  EXPECT_EQ(root_cause({{0, known}}, Phase::write), known);
}

TEST(RootCause, OfFaultsThatAllDifferIsTheLowestRanks) {
  const Fault bad{.code = Code::io, .what = "disk broken"};
  const Fault full{.code = Code::no_space, .what = "disk full"};
  const Fault late{.code = Code::timeout, .what = "no progress"};
  EXPECT_EQ(root_cause({{7, bad}, {2, full}, {0, late}}, Phase::write),
            (Fault{.code = Code::no_space, .what = "disk full", .rank = 2, .phase = Phase::write}));
}

TEST(RootCause, OfARanksBytesThatMakeNoSenseIsThatRank) {
  Comms comms = thread_comms(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    // Rank 2 does not keep to the protocol of on_every_rank; then rank 1 to that of what is led.
    if (comm.rank() != 2) {
      const auto failed = capture([&] { on_every_rank(comm, Phase::write, [] {}); });
      EXPECT_EQ(failed.fault.code, Code::corrupt);
      EXPECT_EQ(failed.fault.rank, 2);
      EXPECT_EQ(failed.fault.phase, Phase::write);
    } else {
      comm.round(name(Phase::write), Bytes(3, std::byte{7}), {});
    }
    through_leader(
        comm, Phase::plan, [&] { return Bytes(comm.rank() == 1 ? 3 : 8); },
        [](const std::vector<Bytes>& all) {
          for (int r = 0; r < 3; ++r) of_rank(r, [&] { return ByteReader(all[static_cast<size_t>(r)]).get<int64_t>(); });
          return all;
        });
  });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault, (Fault{.code = Code::corrupt, .what = "a message ends early", .rank = 1, .phase = Phase::plan}));
  }
}

TEST(FaultOnTheWire, ComesBackAsItWas) {
  const Fault fault{.code = Code::corrupt,
                    .what = "file ends early",
                    .file = "__3_0.distcp",
                    .offset_bytes = 1 << 30,
                    .os_errno = 5,
                    .hint = "restore it",
                    .rank = 3,
                    .phase = Phase::check,
                    .same_on = 511};
  EXPECT_EQ(decode_fault(encode(fault)), fault);
}

TEST(FaultOnTheWire, CutShortIsAnError) {
  const Bytes whole = encode(Fault{.code = Code::io, .what = "what", .file = "file", .hint = "hint"});
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(decode_fault(std::span(whole).first(n)), Error) << n;
}

TEST(OnEveryRank, GivesEveryRankEveryonesBytes) {
  Comms comms = thread_comms(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    return texts_of(on_every_rank_bytes(comm, Phase::plan, [&] { return bytes_from("rank " + std::to_string(comm.rank())); }));
  });
  for (const auto& outcome : outcomes) EXPECT_THAT(outcome.value.value(), ElementsAre("rank 0", "rank 1", "rank 2"));
}

TEST(OnEveryRank, AnExceptionThatIsNotOursTravelsToo) {
  Comms comms = thread_comms(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    on_every_rank(comm, Phase::apply, [&] {
      if (comm.rank() == 1) throw std::bad_alloc();
    });
  });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::no_memory);
    EXPECT_EQ(outcome.fault.rank, 1);
  }
}

TEST(OnLeader, RunsOnTheLeaderAloneAndEveryRankGetsItsBytes) {
  Comms comms = thread_comms(4);
  std::atomic<int> runs = 0;
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    return on_leader(comm, Phase::publish, [&] {
      EXPECT_EQ(comm.rank(), 0);
      ++runs;
      return bytes_from("step 7");
    });
  });
  EXPECT_EQ(runs, 1);
  for (const auto& outcome : outcomes) EXPECT_EQ(as_text(outcome.value.value()), "step 7");
}

TEST(Fault, OfAnUnknownCodeOrPhaseIsNoFault) {
  const Bytes good = encode(Fault{.code = Code::internal, .what = "w", .phase = Phase::train});
  EXPECT_EQ(decode_fault(good).what, "w");
  for (const size_t at : {size_t{0}, sizeof(Code) + sizeof(int64_t) + 2 * sizeof(int32_t)}) {
    Bytes bad = good;
    bad[at] = std::byte{200};
    const auto outcome = capture([&] { return decode_fault(bad); });
    EXPECT_EQ(outcome.fault.code, Code::corrupt) << "at byte " << at;
  }
}

TEST(ThroughLeader, DoesNotLeadWhereOneRankFailed) {
  Comms comms = thread_comms(3);
  std::atomic<bool> led = false;
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    through_leader(
        comm, Phase::describe,
        [&]() -> Bytes { return comm.rank() == 2 ? throw Error({.code = Code::mismatch, .what = "no such key"}) : Bytes{}; },
        [&](std::vector<Bytes> all) {
          led = true;
          return all;
        });
  });
  EXPECT_FALSE(led);
  for (const auto& outcome : outcomes)
    EXPECT_EQ(outcome.fault, (Fault{.code = Code::mismatch, .what = "no such key", .rank = 2, .phase = Phase::describe}));
}

TEST(ThroughLeader, AFailureToLeadIsEveryRanks) {
  Comms comms = thread_comms(3);
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    through_leader(
        comm, Phase::publish, [] { return Bytes{}; },
        [](std::vector<Bytes>) -> std::vector<Bytes> { throw Error({.code = Code::exists, .what = "step 7"}); });
  });
  for (const auto& outcome : outcomes)
    EXPECT_EQ(outcome.fault, (Fault{.code = Code::exists, .what = "step 7", .rank = 0, .phase = Phase::publish}));
}

}  // namespace
}  // namespace tessera
