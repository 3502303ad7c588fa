#include "tessera/comm/lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr Lines::Time start{};
const Fault stop{.code = Code::aborted, .what = "stop"};

Lines two_ranks_two_lines() {
  Lines lines(2, seconds(60));
  for (const int rank : {0, 1}) EXPECT_EQ(lines.open(rank), 1U);
  return lines;
}

TEST(Lines, AreNumberedAsEachRankOpensThem) {
  Lines lines(3, seconds(60));
  EXPECT_EQ(lines.open(2), 1U);
  EXPECT_EQ(lines.open(2), 2U);
  EXPECT_EQ(lines.open(0), 1U);
  EXPECT_NO_THROW(lines.at(2, 2));
  EXPECT_THROW(lines.at(0, 2), Error);  // not opened by that rank
  EXPECT_THROW(lines.at(1, 1), Error);
  EXPECT_THROW(lines.at(1, 4'000'000'000), Error);
}

TEST(Lines, EachHasItsOwnRounds) {
  Lines lines = two_ranks_two_lines();
  lines.arrive(0, 0, "train", {}, start);
  lines.arrive(1, 1, "save", {}, start);
  lines.arrive(0, 1, "save", {}, start);
  EXPECT_TRUE(lines.at(0, 1).complete());
  EXPECT_FALSE(lines.at(0, 0).complete());
  EXPECT_FALSE(lines.broken());
}

TEST(Lines, ProgressOnOneExcusesNothingOnAnother) {
  Lines lines = two_ranks_two_lines();
  lines.arrive(0, 0, "train", {}, start);
  lines.arrive(0, 1, "save", {}, start);
  lines.at(1, 1).note(1, "write", start + seconds(59));
  EXPECT_EQ(lines.check(start + seconds(59)), start + seconds(60));
  EXPECT_EQ(lines.check(start + seconds(60)), std::nullopt);
  ASSERT_TRUE(lines.broken());
  EXPECT_EQ(lines.broken()->code, Code::timeout);
  EXPECT_THAT(lines.broken()->what, HasSubstr("'train'"));
}

TEST(Lines, ARankThatIsBusyOnOneIsNotLateOnAnotherWhereItMakesProgress) {
  Lines lines = two_ranks_two_lines();
  lines.arrive(0, 1, "save", {}, start);
  for (int s = 0; s < 600; s += 50) {
    lines.at(1, 1).note(1, "write", start + seconds(s));
    lines.check(start + seconds(s));
  }
  EXPECT_FALSE(lines.broken());
}

TEST(Lines, ALostRankAnAbortAndALateOneBreakAllOfThemAndThoseToCome) {
  const std::vector<std::function<void(Lines&)>> blows{[](Lines& l) { l.lose(1, "its connection closed"); },
                                                       [](Lines& l) { l.break_with(stop); },
                                                       [](Lines& l) {
                                                         l.arrive(0, 1, "save", {}, start);
                                                         l.check(start + seconds(60));
                                                       },
                                                       [](Lines& l) {
                                                         l.arrive(0, 0, "train", {}, start);
                                                         l.leave(1, 0);
                                                       },
                                                       [](Lines& l) {
                                                         l.arrive(0, 0, "train", {}, start);
                                                         l.arrive(1, 0, "rest", {}, start);
                                                       }};
  for (const auto& blow : blows) {
    Lines lines = two_ranks_two_lines();
    blow(lines);
    ASSERT_TRUE(lines.broken());
    EXPECT_EQ(lines.at(0, 1).broken(), lines.broken());
    EXPECT_EQ(lines.at(0, 0).broken(), lines.broken());
    EXPECT_EQ(lines.open(0), 2U);
    EXPECT_EQ(lines.at(0, 2).broken(), lines.broken());
    EXPECT_EQ(lines.broken_lines().size(), 3U);
  }
}

TEST(Lines, WhereRanksOnlyDisagreeAboutOneItBreaksAlone) {
  const std::vector<std::function<void(Lines&)>> blows{
      [](Lines& l) { l.leave(1, 1); },
      [](Lines& l) { l.arrive(1, 1, "load", {}, start); },
  };
  for (const auto& blow : blows) {
    Lines lines = two_ranks_two_lines();
    lines.arrive(0, 1, "save", {}, start);
    blow(lines);
    EXPECT_FALSE(lines.broken());
    EXPECT_TRUE(lines.at(0, 1).broken());
    EXPECT_FALSE(lines.at(0, 0).broken());
    EXPECT_EQ(lines.check(start + seconds(1000)), std::nullopt);
    EXPECT_FALSE(lines.broken());
    ASSERT_EQ(lines.broken_lines().size(), 1U);
    EXPECT_EQ(lines.broken_lines().front().first, 1U);
  }
}

TEST(Lines, AreGoneWithTheLastThatLeaves) {
  Lines lines = two_ranks_two_lines();
  lines.leave(0, 1);
  EXPECT_TRUE(lines.has(1));
  lines.leave(1, 1);
  EXPECT_FALSE(lines.has(1));
  lines.leave(1, 1);  // again, as a confused rank might
  EXPECT_EQ(lines.open(1), 2U);
  lines.leave(1);
  EXPECT_TRUE(lines.has(2) && lines.at(0, 0).has_left(1));
}

TEST(Lines, AreBoundedWhateverARankDoes) {
  Lines lines(2, seconds(60));
  size_t opened = 1;
  const auto greedy = capture([&] {
    for (;; ++opened) lines.leave(1, lines.open(1));  // the other rank opens none, so that none can go
  });
  EXPECT_EQ(greedy.fault.code, Code::limit);
  EXPECT_THAT(greedy.fault.what, HasSubstr("rank 1"));
  EXPECT_EQ(opened, most_lines);
}

TEST(Lines, MayComeAndGoForEver) {
  Lines lines(2, seconds(60));
  for (int k = 0; k < 10'000; ++k) {
    for (const int rank : {0, 1}) lines.leave(rank, lines.open(rank));
  }
  EXPECT_FALSE(lines.broken());
}

TEST(Lines, ALostRankIsNamedWithWhatItDidOnEach) {
  Lines lines = two_ranks_two_lines();
  lines.at(1, 0).note(1, "train", start);
  lines.at(1, 1).note(1, "write __1_0.distcp", start);
  lines.lose(1, "its connection closed");
  EXPECT_EQ(lines.broken()->what, "rank 1 is gone: its connection closed; last seen at: train; on line 1: write __1_0.distcp");
}

}  // namespace
}  // namespace tessera
