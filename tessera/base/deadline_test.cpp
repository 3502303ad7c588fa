#include "tessera/base/deadline.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Deadline, OneInThePastIsExpiredAndLeavesNothing) {
  for (const Milliseconds past : {Milliseconds(0), Milliseconds(-1), Milliseconds(-100000)}) {
    EXPECT_TRUE(Deadline::after(past).expired());
    EXPECT_EQ(Deadline::after(past).remaining(), Milliseconds(0));
  }
}

TEST(Deadline, OneInTheFutureLeavesNoMoreThanWasGiven) {
  const Deadline deadline = Deadline::after(std::chrono::hours(1));
  EXPECT_FALSE(deadline.expired());
  EXPECT_LE(deadline.remaining(), std::chrono::hours(1));
  EXPECT_GT(deadline.remaining(), Milliseconds(0));
}

TEST(Deadline, ADurationTooLongForTheClockMeansNever) {
  for (const Milliseconds huge : {Milliseconds::max(), Milliseconds::max() - Milliseconds(1), Milliseconds::max() / 1000}) {
    const Deadline never = Deadline::after(huge);
    EXPECT_FALSE(never.expired());
    EXPECT_GT(never.remaining(), std::chrono::hours(24 * 365));
  }
}

}  // namespace
}  // namespace tessera
