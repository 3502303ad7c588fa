#include "tessera/checkpoint/stop_signal.h"

#include <gtest/gtest.h>

#include "tessera/checkpoint/on_ranks_test.h"

namespace tessera {
namespace {

TEST(StopSignal, IsHeardOnceItCameAndLastsForTheGrace) {
  const StopSignal stop(std::chrono::hours(1));
  EXPECT_FALSE(stop.on_this_rank());
  raise(SIGTERM);
  const auto deadline = stop.on_this_rank();
  ASSERT_TRUE(deadline);
  EXPECT_FALSE(deadline->expired());
  EXPECT_LE(deadline->remaining(), std::chrono::hours(1));
}

TEST(StopSignal, EveryRankHearsAtTheSamePlaceWhatOneWasTold) {
  const StopSignal stop;
  all_well(on_ranks(3, [&](Comm& comm) {
    EXPECT_FALSE(stop.on_any_rank(comm));
    barrier(comm, "nobody was told");
    if (comm.rank() == 2) raise(SIGTERM);
    EXPECT_TRUE(stop.on_any_rank(comm));
  }));
}

TEST(StopSignal, GivesTheSignalBackAndForgetsIt) {
  static bool heard = false;
  const auto before = std::signal(SIGTERM, [](int) { heard = true; });
  {
    const StopSignal stop;
    raise(SIGTERM);
    EXPECT_FALSE(heard);
  }
  raise(SIGTERM);
  EXPECT_TRUE(heard);
  EXPECT_FALSE(StopSignal().on_this_rank()) << "the word of an earlier one";
  std::signal(SIGTERM, before);
}

TEST(StopSignal, ThereIsOneAtATime) {
  const StopSignal stop;
  EXPECT_EQ(capture([] { StopSignal second; }).fault.code, Code::exists);
}

}  // namespace
}  // namespace tessera
