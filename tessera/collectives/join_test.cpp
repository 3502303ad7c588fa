#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tessera/collectives/job.h"
#include "tests/support/launch/launch.h"

// Ranks that are processes: this program again, N times, under the environment that torchrun would give it.
namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Ran {
  int code;
  std::string text;
};

// Runs the test below that is named RankProcess.DISABLED_`role`, as every rank of a job.
Ran run_as_processes(int ranks, const std::string& role) {
  std::ostringstream out;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const int code = launch({.ranks = ranks,
                           .deadline = std::chrono::minutes(2),
                           .grace = std::chrono::seconds(60),
                           .command = {self, "--gtest_also_run_disabled_tests", "--gtest_filter=RankProcess.DISABLED_" + role}},
                          out);
  return {code, out.str()};
}

int given_rank() { return std::atoi(std::getenv("RANK")); }

// One line at once, so that the launcher does not mix it with another's.
void say(const std::string& line) { std::cout << line + "\n" << std::flush; }

void add_up(const Job& job) {
  const at::Tensor tensor = at::full({4}, job.rank() + 1.0);
  job.collectives().all_reduce(tensor, Reduce::sum)->wait();
  say("the sum is " + std::to_string(tensor[3].item<int>()));
}

TEST(RankProcess, DISABLED_AddsUp) {
  const Job job = join();
  EXPECT_EQ(job.rank(), given_rank());
  EXPECT_TRUE(launched());
  add_up(job);
  std::vector<int> turns;
  job.in_turn([&] { turns.push_back(job.rank()); });
  EXPECT_EQ(turns.size(), 1U);
  EXPECT_EQ(all_gather(job, "names", {std::byte{7}}).size(), static_cast<size_t>(job.size()));
}

// The variables, for the ranks that are started meanwhile.
class With {
 public:
  With(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~With() { unsetenv(name_); }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  const char* name_;
};

TEST(Join, RanksThatAreProcessesComputeAndAgree) {
  for (const auto& [ranks, transport] : {std::pair(1, "automatic"), std::pair(3, "gloo"), std::pair(3, "shared_memory")}) {
    const With chosen("TESSERA_TRANSPORT", transport);
    const Ran ran = run_as_processes(ranks, "AddsUp");
    EXPECT_EQ(ran.code, 0) << ran.text;
    for (int r = 0; r < ranks; ++r) {
      EXPECT_THAT(ran.text, HasSubstr("[rank " + std::to_string(r) + "] the sum is " + std::to_string(ranks * (ranks + 1) / 2)));
    }
  }
}

// Only a job that shares memory has it in its map. Where SMALL_FILES is set, rank 0 may make none that is large enough.
TEST(RankProcess, DISABLED_SaysHow) {
  if (std::getenv("SMALL_FILES") && given_rank() == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  const auto joined = capture([] { return join(); });
  if (!joined) return say(std::string(name(joined.fault.code)) + ": " + joined.fault.what);
  const Job& job = *joined.value;
  add_up(job);
  std::ifstream maps("/proc/self/maps");
  const std::string map{std::istreambuf_iterator<char>(maps), {}};
  say(map.find("memfd:tessera") == std::string::npos ? "by sockets" : "by shared memory");
  barrier(job.comm(), "said");
}

TEST(Join, SharesMemoryOnOneHostUnlessItIsToldNotTo) {
  for (const auto& [transport, how] :
       {std::pair("automatic", "by shared memory"), std::pair("shared_memory", "by shared memory"), std::pair("gloo", "by sockets")}) {
    const With chosen("TESSERA_TRANSPORT", transport);
    const Ran ran = run_as_processes(2, "SaysHow");
    EXPECT_EQ(ran.code, 0) << ran.text;
    EXPECT_THAT(ran.text, AllOf(HasSubstr("[rank 0] " + std::string(how)), HasSubstr("[rank 1] " + std::string(how)))) << transport;
  }
}

TEST(Join, GoesOverSocketsWhereARankCannotShareMemoryUnlessItIsToldToInsist) {
  const With small_files("SMALL_FILES", "1");
  for (const auto& [transport, how] :
       {std::pair("automatic", "by sockets"),
        std::pair("shared_memory", "unsupported: rank 0 cannot share memory: shared memory: size a memfd")}) {
    const With chosen("TESSERA_TRANSPORT", transport);
    const Ran ran = run_as_processes(2, "SaysHow");
    EXPECT_EQ(ran.code, 0) << ran.text;
    EXPECT_THAT(ran.text, AllOf(HasSubstr("[rank 0] " + std::string(how)), HasSubstr("[rank 1] " + std::string(how)))) << transport;
  }
}

TEST(Join, InsistsOnNcclOnlyWhereItIsToldTo) {
  if (at::globalContext().hasCUDA()) GTEST_SKIP() << "there may be some";
  for (const auto& [transport, how] :
       {std::pair("automatic", "by shared memory"), std::pair("host", "by shared memory"),
        std::pair("nccl", "unsupported: no NCCL for these ranks"), std::pair("mpi", "invalid_argument: TESSERA_GPU_TRANSPORT is 'mpi'")}) {
    const With chosen("TESSERA_GPU_TRANSPORT", transport);
    const Ran ran = run_as_processes(2, "SaysHow");
    EXPECT_EQ(ran.code, 0) << ran.text;
    EXPECT_THAT(ran.text, AllOf(HasSubstr("[rank 0] " + std::string(how)), HasSubstr("[rank 1] " + std::string(how)))) << transport;
  }
}

TEST(RankProcess, DISABLED_GoesItsOwnWay) {
  const Job job = join();
  const auto gone = capture([&] {
    const at::Tensor full = at::full({8}, 0.0), shard = at::full({4}, 1.0);
    job.collectives().all_gather_into(full, shard, job.rank() == 0 ? "h.2" : "h.3")->wait();
  });
  say(gone ? "nothing wrong" : std::string(name(gone.fault.code)) + ": " + gone.fault.what);
  barrier(job.comm(), "said");
}

TEST(Join, RanksThatGoDifferentWaysAreToldWhereItIsLookedFor) {
  for (const char* transport : {"shared_memory", "gloo"}) {
    const With chosen("TESSERA_TRANSPORT", transport);
    const With check("TESSERA_CHECK_ORDER", "1");
    const Ran ran = run_as_processes(2, "GoesItsOwnWay");
    EXPECT_EQ(ran.code, 0) << ran.text;
    for (const char* rank : {"[rank 0]", "[rank 1]"})
      EXPECT_THAT(ran.text, HasSubstr(std::string(rank) + " mismatch: ranks went different ways")) << transport;
    EXPECT_THAT(ran.text, HasSubstr("rank 1 launched all_gather of h.3 (4 Float) as its 1st, rank 0 launched all_gather of h.2 (4 Float)"));
  }
}

void say_what_comes_of_adding_up(const Job& job) {
  const auto outcome = capture([&] { add_up(job); });
  say(outcome ? "nothing wrong" : std::string(name(outcome.fault.code)) + ": " + outcome.fault.what);
}

TEST(RankProcess, DISABLED_IsKilled) {
  const Job job = join();
  add_up(job);
  if (job.rank() == 1) raise(SIGKILL);
  say_what_comes_of_adding_up(job);
}

TEST(Join, AKilledRankIsNamedByTheOthersTogetherWithTheOperation) {
  const Ran ran = run_as_processes(3, "IsKilled");
  EXPECT_EQ(ran.code, 128 + SIGKILL);
  for (const std::string rank : {"[rank 0]", "[rank 2]"}) {
    EXPECT_THAT(ran.text,
                testing::ContainsRegex("\\" + rank.substr(0, rank.size() - 1) + "\\] peer_lost: .*rank 1.*all_reduce of 4 Float"));
  }
}

TEST(RankProcess, DISABLED_FailsByItself) {
  const Job job = join();
  add_up(job);
  if (job.rank() == 2) throw std::runtime_error("out of luck");
  say_what_comes_of_adding_up(job);
}

TEST(Join, ARankThatFailsByItselfIsNamedByTheOthers) {
  const Ran ran = run_as_processes(3, "FailsByItself");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.text, testing::ContainsRegex("\\[rank 0\\] peer_lost: .*rank 2"));
  EXPECT_THAT(ran.text, testing::ContainsRegex("\\[rank 1\\] peer_lost: .*rank 2"));
}

TEST(RankProcess, DISABLED_LeavesWorkBehind) {
  const Job job = join();
  add_up(job);
  // Nobody else joins this one, and nobody waits for it.
  const at::Tensor tensor = at::full({4}, 1.0);
  if (job.rank() == 0) job.collectives().all_reduce(tensor, Reduce::sum);
}

TEST(Join, AnOperationThatNobodyJoinsDoesNotKeepARankFromEnding) {
  const Ran ran = run_as_processes(2, "LeavesWorkBehind");
  EXPECT_EQ(ran.code, 0) << ran.text;
}

TEST(RankProcess, DISABLED_MissesOne) {
  const int missing = std::atoi(std::getenv("MISSING_RANK"));
  if (given_rank() == missing) return;
  const auto joined = capture([] { return join({.control_deadline = std::chrono::seconds(2)}); });
  say(joined ? "joined" : std::string(name(joined.fault.code)) + ": " + joined.fault.what);
}

TEST(Join, ARankThatNeverComesIsATimeoutForTheOthers) {
  for (const int missing : {0, 1}) {
    setenv("MISSING_RANK", std::to_string(missing).c_str(), 1);
    const Ran ran = run_as_processes(2, "MissesOne");
    EXPECT_EQ(ran.code, 0) << ran.text;
    EXPECT_THAT(ran.text, HasSubstr("[rank " + std::to_string(1 - missing) + "] timeout: "));
    EXPECT_THAT(ran.text, HasSubstr(missing == 0 ? "rank 1 could not meet the others at 127.0.0.1:" : "rank 1 was last seen at: starting"));
  }
}

TEST(Join, WithoutALauncherItIsAJobOfThisProcessAlone) {
  ASSERT_FALSE(launched());
  const Job job = join();
  EXPECT_EQ(job.rank(), 0);
  EXPECT_EQ(job.size(), 1);
  const at::Tensor tensor = at::full({4}, 3.0);
  job.collectives().all_reduce(tensor, Reduce::mean)->wait();
  EXPECT_EQ(tensor[0].item<float>(), 3);
}

TEST(Join, ASettingInTheEnvironmentThatMakesNoSenseIsNamed) {
  for (const char* variable : {"TESSERA_CONTROL_TIMEOUT_S", "TESSERA_DATA_TIMEOUT_S", "TESSERA_TRANSPORT", "TESSERA_CHECK_ORDER"}) {
    setenv(variable, "soon", 1);
    const auto joined = capture([] { return join(); });
    unsetenv(variable);
    EXPECT_EQ(joined.fault.code, Code::invalid_argument);
    EXPECT_THAT(joined.fault.what, HasSubstr(variable));
  }
}

}  // namespace
}  // namespace tessera
