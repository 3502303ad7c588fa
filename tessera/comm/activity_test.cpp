#include "tessera/comm/activity.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using std::chrono::seconds;

constexpr Activity::Time start{};
constexpr int64_t mib = int64_t{1} << 20;

TEST(Activity, SaysHowFarItIsAndHowFastSinceItBegan) {
  Activity activity;
  EXPECT_EQ(describe(activity), "starting");
  activity.note("write a", 0, 2048 * mib, start);
  EXPECT_EQ(describe(activity), "write a, 0 B of 2.0 GiB");
  activity.note("write a", 512 * mib, 2048 * mib, start + seconds(8));
  EXPECT_EQ(describe(activity), "write a, 512.0 MiB of 2.0 GiB at 64.0 MiB/s");
  // The speed is of what was seen: not of what was done before the first word of it.
  activity.note("write b", 100 * mib, 0, start + seconds(9));
  EXPECT_EQ(describe(activity), "write b, 100.0 MiB so far");
  activity.note("write b", 130 * mib, 0, start + seconds(19));
  EXPECT_EQ(describe(activity), "write b, 130.0 MiB so far at 3.0 MiB/s");
  activity.note("publish", 0, 0, start + seconds(20));
  EXPECT_EQ(describe(activity), "publish");
}

TEST(Activity, BeginsAgainWhereTheSameIsDoneAnew) {
  Activity activity;
  activity.note("write a", 50 * mib, 50 * mib, start);
  activity.note("write a", 10 * mib, 50 * mib, start + seconds(100));
  activity.note("write a", 20 * mib, 50 * mib, start + seconds(101));
  EXPECT_EQ(describe(activity), "write a, 20.0 MiB of 50.0 MiB at 10.0 MiB/s");
}

TEST(Activity, BearsAnyNumbers) {
  for (const int64_t done : {INT64_MIN, int64_t{-1}, int64_t{0}, INT64_MAX}) {
    for (const int64_t total : {INT64_MIN, int64_t{0}, INT64_MAX}) {
      Activity activity;
      activity.note("x", INT64_MIN, total, start);
      activity.note("x", done, total, start + std::chrono::nanoseconds(1));
      EXPECT_TRUE(describe(activity).starts_with("x"));
    }
  }
}

}  // namespace
}  // namespace tessera
