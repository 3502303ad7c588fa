#include "cli/gc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::cli {
namespace {

using namespace std::chrono_literals;

TEST(Gc, AnAgeIsANumberWithAUnit) {
  EXPECT_EQ(age_named("0"), 0s);
  EXPECT_EQ(age_named("90s"), 90s);
  EXPECT_EQ(age_named("30m"), 30min);
  EXPECT_EQ(age_named("2h"), 2h);
  EXPECT_EQ(age_named("7d"), 168h);
  for (const char* text : {"", "5", "h", "-1h", "1.5h", "1w", "1 h", "99999999999999999999d", "9223372036854775807h"})
    EXPECT_THROW(age_named(text), Error) << text;
}

TEST(Gc, TheBestAreNamedByMetricCountAndDirection) {
  const auto is = [](const KeepBest& best, const std::string& metric, int count, bool higher) {
    return best.metric == metric && best.count == count && best.higher_is_better == higher;
  };
  EXPECT_TRUE(is(best_named("loss"), "loss", 1, false));
  EXPECT_TRUE(is(best_named("loss:3"), "loss", 3, false));
  EXPECT_TRUE(is(best_named("loss:3:lower"), "loss", 3, false));
  EXPECT_TRUE(is(best_named("accuracy:2:higher"), "accuracy", 2, true));
  EXPECT_TRUE(is(best_named("accuracy:higher"), "accuracy", 1, true));
  EXPECT_TRUE(is(best_named("higher"), "higher", 1, false));
  EXPECT_TRUE(is(best_named("eval:loss:3"), "eval:loss", 3, false));
  for (const char* text : {"", ":3", "loss:0", "loss:x", "loss:", ":higher"}) EXPECT_THROW(best_named(text), Error) << text;
}

}  // namespace
}  // namespace tessera::cli
