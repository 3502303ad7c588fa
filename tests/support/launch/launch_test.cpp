#include "tests/support/launch/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Ran {
  int code;
  std::string text;
};
Ran run(int ranks, const std::string& script, milliseconds deadline = std::chrono::minutes(1), milliseconds grace = milliseconds(200)) {
  std::ostringstream out;
  const int code = launch({.ranks = ranks, .deadline = deadline, .grace = grace, .command = {"sh", "-c", script}}, out);
  return {code, out.str()};
}

TEST(Launch, GivesEachRankItsVariablesAndTagsItsLines) {
  const Ran ran = run(2, "echo I am $RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT; echo aside >&2");
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.text,
              AllOf(HasSubstr("[rank 0] I am 0 of 2 at 127.0.0.1:"), HasSubstr("[rank 1] I am 1 of 2"), HasSubstr("[rank 1] aside")));
  EXPECT_THAT(ran.text, HasSubstr("[launch] rank 1 pid "));
}

TEST(Launch, NamesTheRankThatFailedAndTakesItsExitCode) {
  const Ran ran = run(3, "[ $RANK = 2 ] && exit 3; sleep 0.05");
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.text, HasSubstr("[launch] rank 2 exited with code 3"));
}

TEST(Launch, NamesASignal) {
  const Ran ran = run(2, "[ $RANK = 0 ] && kill -9 $$; sleep 0.05");
  EXPECT_EQ(ran.code, 128 + SIGKILL);
  EXPECT_THAT(ran.text, HasSubstr("[launch] rank 0 was killed by signal 9"));
}

TEST(Launch, LetsTheOthersSayWhatTheyHaveToSayBeforeItEndsThem) {
  const Ran ran =
      run(2, "[ $RANK = 0 ] && exit 1; sleep 0.2; echo my own error; exit 4", std::chrono::minutes(1), std::chrono::seconds(20));
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.text, AllOf(HasSubstr("[rank 1] my own error"), Not(HasSubstr("ending rank"))));
}

TEST(Launch, EndsThoseThatDoNotEndByThemselves) {
  const Ran ran = run(2, "[ $RANK = 0 ] && exit 1; sleep 600");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.text, HasSubstr("[launch] ending rank 1"));
}

TEST(Launch, EndsAllAtTheDeadlineEvenThoseThatIgnoreBeingAsked) {
  const Ran ran = run(2, "trap '' TERM; while :; do sleep 0.1; done", milliseconds(300));
  EXPECT_EQ(ran.code, 124);
  EXPECT_THAT(ran.text, HasSubstr("the deadline of 300 ms is over"));
}

TEST(Launch, LeavesNoOrphanWhenItIsKilledItself) {
  const TemporaryDirectory directory;
  const std::string pids = directory / "pids";
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    std::ostringstream out;
    launch({.ranks = 2, .command = {"sh", "-c", "echo $$ >> " + pids + "; exec sleep 600"}}, out);
    ::_exit(0);
  }
  std::vector<pid_t> ranks;
  for (int i = 0; i < 1000 && ranks.size() < 2; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
    std::ifstream in(pids);
    ranks.clear();
    for (pid_t pid; in >> pid;) ranks.push_back(pid);
  }
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  for (const pid_t pid : ranks) {
    bool gone = false;
    for (int i = 0; i < 1000 && !gone; ++i) {
      // Killed, it may stay a zombie until someone reaps it; that is as good as gone.
      std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
      std::string text;
      gone = !std::getline(stat, text) || text.find(") Z") != std::string::npos;
      if (!gone) std::this_thread::sleep_for(milliseconds(10));
    }
    EXPECT_TRUE(gone) << pid;
  }
}

}  // namespace
}  // namespace tessera
