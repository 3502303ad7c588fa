// What the simulation has found, each as a story of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/storage/memory_storage.h"
#include "tests/simulation/tiny_state.h"
#include "tests/support/sim_comm.h"
#include "tests/support/sim_storage.h"

namespace tessera {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using testing::IsEmpty;

TEST(Found, NothingIsLeftWhenARankIsLostWhileTheLeaderMakesTheStagingDirectory) {
  SimWorld world(1);
  const auto disk = std::make_shared<MemoryStorage>();
  SimJob job(world, "job", 3);
  constexpr int64_t stage = 1;  // the leader's operations: look at the target, stage
  SimStorage leaders(job.process(0), disk, {{.operation = stage, .takes = seconds(5)}});
  int lost = 0;
  job.start(world.now(), [&](Comm& comm, SimProcess& process) {
    SimStorage own(process, disk);
    try {
      save(comm, comm.rank() == 0 ? leaders : own, "step", TinyState({}, comm.rank(), 3, 1).state, {.io = {.threads = 1}});
    } catch (const Error& error) {
      lost += error.code() == Code::peer_lost;
    }
  });
  world.after(seconds(3), [&] { job.process(2).kill(); });
  EXPECT_TRUE(world.run_until_quiet(hours(1)));
  EXPECT_EQ(lost, 2);
  EXPECT_GT(leaders.operations(), stage);
  EXPECT_THAT(disk->list(""), IsEmpty());
}

// Another job publishes a step and removes the older ones at any moment of the search.
TEST(Found, StepsThatGoWhileTheyAreLookedAtAreNoReasonToStartAfresh) {
  for (int k = 0; k < 12; ++k) {
    SimWorld world(1);
    const auto disk = std::make_shared<MemoryStorage>();
    const auto save_step = [&](Step step) {
      const auto alone = thread_comms(1);
      Checkpoints(*alone.front(), disk, {.keep_last = 1}).save(step, TinyState({}, 0, 1, 1).state);
    };
    save_step(1);
    SimJob job(world, "job", 1);
    job.start(world.now(), [&](Comm& comm, SimProcess& process) {
      int seen = 0;
      const auto watched = std::make_shared<SimStorage>(process, disk, std::vector<StorageTrouble>{}, [&](std::string_view, const Path&) {
        if (seen++ == k) save_step(2);
      });
      const auto latest = Checkpoints(comm, watched).latest();
      EXPECT_TRUE(latest) << "before operation " << k;
    });
    EXPECT_TRUE(world.run_until_quiet(hours(1)));
  }
}

TEST(Found, StepsThatCannotBeReadNowAreAnErrorAndNoReasonToStartAfresh) {
  for (int k = 0; k < 6; ++k) {
    SimWorld world(1);
    const auto disk = std::make_shared<MemoryStorage>();
    save(*thread_comms(1).front(), *disk, step_name(1), TinyState({}, 0, 1, 1).state);
    SimJob job(world, "job", 1);
    Outcome<std::optional<Step>> latest;
    job.start(world.now(), [&](Comm& comm, SimProcess& process) {
      const auto failing = std::make_shared<SimStorage>(process, disk, std::vector<StorageTrouble>{{.operation = k, .os_errno = EIO}});
      Checkpoints steps(comm, failing);
      latest = capture([&] { return steps.latest(); });
      if (latest) {
        EXPECT_EQ(*latest.value, 1) << "operation " << k;
      } else {
        EXPECT_EQ(latest.fault.code, Code::io) << "operation " << k;
      }
    });
    EXPECT_TRUE(world.run_until_quiet(hours(1)));
  }
}

}  // namespace
}  // namespace tessera
