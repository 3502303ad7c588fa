// How a rank that is a process ends, and what the others learn of it. Each test starts this program again as the ranks of a job; each rank
// runs one DISABLED_ test of below.
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tessera/collectives/job.h"
#include "tests/support/launch/launch.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Ran {
  int code;
  std::string text;
};

const std::string transports[] = {"gloo", "shared_memory"};

// Runs the DISABLED_ test `part` as the ranks of a job, with one more variable "NAME=value". One that hangs is ended: exit code 124.
Ran run_part(int ranks, const std::string& transport, const std::string& part, const std::string& variable = "NONE=") {
  std::ostringstream out;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string filter = "--gtest_filter=RankOfAJob.DISABLED_" + part;
  const int code = launch({.ranks = ranks,
                           .deadline = std::chrono::minutes(1),
                           .grace = std::chrono::minutes(1),
                           .command = {"env", "TESSERA_TRANSPORT=" + transport, variable, self, "--gtest_also_run_disabled_tests", filter}},
                          out);
  return {code, out.str()};
}

// Prints how the rank's work ended: "learned: peer_lost: rank 2 is gone: …".
void say_what_is_learned(const std::function<void()>& work) {
  const auto outcome = capture(work);
  std::cout << "learned: " << (outcome ? "nothing" : std::string(name(outcome.fault.code)) + ": " + describe(outcome.fault)) << std::endl;
}

std::string learned(int rank, const std::string& what) { return "[rank " + std::to_string(rank) + "] learned: " + what; }

// LOSS is how, then who: that rank ends while the others are in an all_gather that needs it.
TEST(RankOfAJob, DISABLED_Ends) {
  std::istringstream loss(std::getenv("LOSS"));
  std::string how;
  int who = 0;
  loss >> how >> who;
  say_what_is_learned([&] {
    const Job job = join();
    job.collectives().all_reduce(at::full({8}, 1.0), Reduce::sum)->wait();
    if (job.rank() == who && how == "kill") raise(SIGKILL);
    if (job.rank() == who && how == "exit") _exit(3);
    if (job.rank() == who) throw Error({.code = Code::io, .what = "my own trouble"});
    job.collectives().all_gather_into(at::zeros({1000 * job.size()}), at::zeros({1000}))->wait();
  });
}

class LostRank : public testing::TestWithParam<std::string> {};

TEST_P(LostRank, IsNamedByAllThatWaitForItInACollective) {
  for (const auto& [how, code] : {std::pair("kill", 128 + SIGKILL), std::pair("exit", 3), std::pair("throw", 0)}) {
    for (const int who : {0, 2}) {
      const Ran ran = run_part(3, GetParam(), "Ends", "LOSS=" + std::string(how) + " " + std::to_string(who));
      EXPECT_EQ(ran.code, code) << ran.text;
      for (const int r : {0, 1, 2}) {
        if (r == who) continue;
        EXPECT_THAT(ran.text, HasSubstr(learned(r, "peer_lost: rank " + std::to_string(who)))) << how;
      }
      EXPECT_THAT(ran.text, HasSubstr("in all_gather of 1000 Float"));
      if (code == 0) {
        EXPECT_THAT(ran.text, HasSubstr(learned(who, "io: my own trouble")));
      }
    }
  }
}

// WHO dies with an operation half done: the thread that carries it out, or the other side, is in the middle of many pieces.
TEST(RankOfAJob, DISABLED_DiesInTheMiddle) {
  const int who = std::atoi(std::getenv("WHO"));
  say_what_is_learned([&] {
    const Job job = join({.data_deadline = std::chrono::seconds(30)});
    const at::Tensor whole = at::zeros({int64_t{16} << 20});
    job.collectives().all_reduce(whole, Reduce::sum, "warm")->wait();
    const auto under_way = job.collectives().all_reduce(whole, Reduce::sum, "h.3");
    if (job.rank() == who) raise(SIGKILL);
    under_way->wait();
    job.collectives().all_reduce(whole, Reduce::sum, "h.4")->wait();
  });
}

TEST_P(LostRank, IsNamedWhenItDiesInTheMiddleOfAnOperation) {
  for (const int who : {0, 1}) {
    const Ran ran = run_part(3, GetParam(), "DiesInTheMiddle", "WHO=" + std::to_string(who));
    EXPECT_EQ(ran.code, 128 + SIGKILL) << ran.text;
    for (const int r : {0, 1, 2}) {
      if (r == who) continue;
      EXPECT_THAT(ran.text, HasSubstr(learned(r, "peer_lost: rank " + std::to_string(who))));
    }
    EXPECT_THAT(ran.text, testing::ContainsRegex("in all_reduce of h\\.[34] \\(16777216 Float\\)"));
  }
}

// Rank 3 dies; the others wait for it, or for each other, in groups of two.
TEST(RankOfAJob, DISABLED_DiesInAGroup) {
  say_what_is_learned([&] {
    const Job job = join();
    const int first = job.rank() / 2 * 2;
    const auto group = job.collectives().split({first, first + 1});
    group->all_reduce(at::full({8}, 1.0), Reduce::sum)->wait();
    if (job.rank() == 3) raise(SIGKILL);
    if (job.rank() == 0) return barrier(job.comm(), "group over");
    group->all_gather_into(at::zeros({2000}), at::zeros({1000}), "h.3")->wait();
  });
}

TEST_P(LostRank, IsNamedByItsNumberInTheJobByThoseInItsGroupAndOthers) {
  const Ran ran = run_part(4, GetParam(), "DiesInAGroup");
  EXPECT_EQ(ran.code, 128 + SIGKILL) << ran.text;
  for (const int r : {0, 1, 2}) EXPECT_THAT(ran.text, HasSubstr(learned(r, "peer_lost: rank 3")));
  EXPECT_THAT(ran.text, HasSubstr("in all_gather of h.3 (1000 Float)"));
}

TEST(RankOfAJob, DISABLED_Aborts) {
  say_what_is_learned([&] {
    const Job job = join();
    if (job.rank() == 1) job.collectives().abort({.code = Code::aborted, .what = "rank 1 said no"});
    job.collectives().all_reduce(at::full({8}, 1.0), Reduce::sum)->wait();
  });
}

TEST_P(LostRank, ThatAbortsIsHeardByEveryProcess) {
  const Ran ran = run_part(3, GetParam(), "Aborts");
  EXPECT_EQ(ran.code, 0) << ran.text;
  for (const int r : {0, 1, 2}) EXPECT_THAT(ran.text, HasSubstr(learned(r, "aborted: rank 1 said no")));
}

// The operation under way needs the other rank, which waits for this one elsewhere.
TEST(RankOfAJob, DISABLED_GivesUp) {
  say_what_is_learned([&] {
    const Job job = join();
    if (job.rank() == 1) {
      const auto under_way = job.collectives().all_gather_into(at::zeros({4}), at::zeros({2}));
      throw Error({.code = Code::io, .what = "my own trouble"});
    }
    barrier(job.comm(), "save");
  });
}

TEST_P(LostRank, LeavesAtOnceAndIsNamedThoughACollectiveIsUnderWay) {
  const Ran ran = run_part(2, GetParam(), "GivesUp");
  EXPECT_EQ(ran.code, 0) << ran.text;
  EXPECT_THAT(ran.text, AllOf(HasSubstr(learned(0, "peer_lost: rank 1")), HasSubstr(learned(1, "io: my own trouble"))));
}

// The line SigBlk of a thread's status is its mask of blocked signals, in hexadecimal.
TEST(RankOfAJob, DISABLED_LooksAtItsThreads) {
  const Job job = join();
  job.collectives().all_reduce(at::full({8}, 1.0), Reduce::sum)->wait();
  int others = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    const bool own = thread.path().filename() == std::to_string(getpid());
    std::ifstream status(thread.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigBlk:")) continue;
      const bool deaf = ((std::stoull(line.substr(7), nullptr, 16) >> (SIGPIPE - 1)) & 1) != 0;
      EXPECT_EQ(deaf, !own) << thread.path();
      others += own ? 0 : 1;
    }
  }
  EXPECT_GE(others, 3);
  barrier(job.comm(), "looked");
}

TEST_P(LostRank, CannotEndAnotherByTheBrokenPipeItLeaves) {
  const Ran ran = run_part(2, GetParam(), "LooksAtItsThreads");
  EXPECT_EQ(ran.code, 0) << ran.text;
}

INSTANTIATE_TEST_SUITE_P(Transports, LostRank, testing::ValuesIn(transports), [](const auto& one) { return one.param; });

}  // namespace
}  // namespace tessera
