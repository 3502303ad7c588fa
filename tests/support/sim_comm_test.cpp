#include "tests/support/sim_comm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/comm/on_every_rank.h"

namespace tessera {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using testing::HasSubstr;

struct Story {
  std::vector<Outcome<int>> outcomes;  // rounds that went well, on each rank that lived
  uint64_t hash = 0;
  bool quiet = false;
  double took = 0;
};

// Ten rounds on so many ranks, while `disturb` does what it wants.
Story ten_rounds(uint64_t seed, int ranks, const std::function<void(SimJob&)>& disturb) {
  SimWorld world(seed);
  SimJob job(world, "job", ranks);
  Story run{std::vector<Outcome<int>>(static_cast<size_t>(ranks), Outcome<int>{std::nullopt, {.what = "it never ended"}})};
  const SimTime begin = world.now();
  job.start(begin, [&](Comm& comm, SimProcess& process) {
    int well = 0;
    auto outcome = capture([&] {
      for (; well < 10; ++well) {
        process.sleep(Milliseconds(100));
        comm.note("work " + std::to_string(well));
        const auto all = all_gather(comm, "round", {std::byte(comm.rank()), std::byte(well)});
        for (size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], (Bytes{std::byte(r), std::byte(well)}));
      }
      return well;
    });
    process.check();
    if (!outcome) world.trace(process.name(), describe(outcome.fault));
    run.took = std::chrono::duration<double>(world.now() - begin).count();
    run.outcomes[static_cast<size_t>(comm.rank())] = std::move(outcome);
  });
  disturb(job);
  run.quiet = world.run_until_quiet(hours(1));
  run.hash = world.hash();
  return run;
}

TEST(SimComm, RanksMeetRoundAfterRound) {
  for (const int ranks : {1, 2, 100}) {
    const Story run = ten_rounds(1, ranks, [](SimJob&) {});
    EXPECT_TRUE(run.quiet);
    for (const auto& outcome : run.outcomes) EXPECT_EQ(outcome.value, 10) << describe(outcome.fault);
  }
}

TEST(SimComm, TheSameSeedTellsTheSameStoryAndAnotherAnother) {
  const auto story = [](uint64_t seed) {
    return ten_rounds(seed, 20, [](SimJob& job) { job.process(3).at_step(9, [&job] { job.process(3).kill(); }); }).hash;
  };
  EXPECT_EQ(story(1), story(1));
  EXPECT_NE(story(1), story(2));
}

TEST(SimComm, WhereverARankIsKilledTheOthersNameIt) {
  for (const int who : {0, 2}) {
    for (int step = 1; step < 25; ++step) {
      const Story run = ten_rounds(static_cast<uint64_t>(step), 5,
                                   [&](SimJob& job) { job.process(who).at_step(step, [&job, who] { job.process(who).kill(); }); });
      EXPECT_TRUE(run.quiet);
      for (int r = 0; r < 5; ++r) {
        const auto& outcome = run.outcomes[static_cast<size_t>(r)];
        if (r == who) {
          EXPECT_EQ(outcome.fault.what, "it never ended");
        } else {
          EXPECT_EQ(outcome.fault.code, Code::peer_lost);
          EXPECT_THAT(outcome.fault.what, HasSubstr("rank " + std::to_string(who))) << "at step " << step;
        }
      }
    }
  }
}

TEST(SimComm, AShortPauseOrPartitionIsWaitedForAndALongOneIsALoss) {
  const auto disturbed = [](SimSpan span, int who, bool pause) {
    return ten_rounds(7, 5, [=](SimJob& job) {
      job.world().after(Milliseconds(500), [=, &job] {
        if (pause) job.process(who).pause(span);
        else job.partition(who, span);
      });
    });
  };
  for (const bool pause : {true, false}) {
    for (const int who : {0, 3}) {
      if (who == 0 && !pause) continue;
      for (const auto& outcome : disturbed(seconds(8), who, pause).outcomes) EXPECT_EQ(outcome.value, 10) << describe(outcome.fault);
      const Story lost = disturbed(seconds(25), who, pause);
      EXPECT_TRUE(lost.quiet);
      for (int r = 0; r < 5; ++r) {
        const auto& outcome = lost.outcomes[static_cast<size_t>(r)];
        EXPECT_EQ(outcome.fault.code, Code::peer_lost) << describe(outcome.fault);
        if (r != who) {
          EXPECT_THAT(outcome.fault.what, HasSubstr("rank " + std::to_string(who)));
        }
      }
    }
  }
}

TEST(SimComm, ARankThatHangsWhileItBeatsIsATimeOutThatNamesIt) {
  const Story run = ten_rounds(7, 5, [](SimJob& job) { job.process(4).at_step(5, [&job] { job.process(4).pause_body(seconds(100)); }); });
  EXPECT_TRUE(run.quiet);
  for (const auto& outcome : run.outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::timeout) << describe(outcome.fault);
    EXPECT_THAT(outcome.fault.what, HasSubstr("rank 4 was last seen at: work 1"));
  }
}

TEST(SimComm, ACutConnectionIsALossOnBothSides) {
  const Story run = ten_rounds(7, 5, [](SimJob& job) { job.world().after(Milliseconds(500), [&job] { job.cut(2); }); });
  for (int r = 0; r < 5; ++r) {
    const Fault& fault = run.outcomes[static_cast<size_t>(r)].fault;
    EXPECT_EQ(fault.code, Code::peer_lost);
    EXPECT_THAT(fault.what, HasSubstr(r == 2 ? "rank 0, the leader, is gone" : "rank 2 is gone"));
  }
}

TEST(SimComm, LinesHaveRoundsOfTheirOwnAndALostRankBreaksThemAll) {
  SimWorld world(1);
  SimJob job(world, "job", 5);
  int well = 0;
  int lost = 0;
  job.start(world.now(), [&](Comm& comm, SimProcess& process) {
    const auto second = comm.line();
    for (int k = 0; k < 3; ++k) {
      barrier(comm, "first");
      well += all_gather(*second, "second", {std::byte(comm.rank())}).size() == 5;
    }
    if (comm.rank() == 3) process.sleep(seconds(100));
    for (Comm* line : {second.get(), &comm}) {
      const auto failed = capture([&] { barrier(*line, "third"); });
      process.check();
      lost += failed.fault.code == Code::peer_lost;
    }
  });
  world.after(seconds(10), [&] { job.process(3).kill(); });
  EXPECT_TRUE(world.run_until_quiet(hours(1)));
  EXPECT_EQ(well, 15);
  EXPECT_EQ(lost, 2 * 4);
}

}  // namespace
}  // namespace tessera
