#include "tessera/comm/round_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

constexpr RoundTable::Time start{};

RoundTable::Time at_second(int s) { return start + seconds(s); }

RoundTable with_arrivals(int ranks, std::initializer_list<int> arrived) {
  RoundTable table(ranks, seconds(60));
  for (const int rank : arrived) table.arrive(rank, "save", {}, at_second(100));
  return table;
}

TEST(RoundTable, NobodyIsLateWhileNobodyWaits) {
  RoundTable table(3, seconds(60));
  table.note(0, "compute", at_second(0));
  EXPECT_EQ(table.check(at_second(1'000'000)), std::nullopt);
  EXPECT_EQ(table.broken(), std::nullopt);
}

TEST(RoundTable, ARankIsLateSinceItsLastProgressOrSinceOthersBeganToWait) {
  RoundTable table = with_arrivals(3, {0, 1});
  EXPECT_EQ(table.check(at_second(159)), at_second(160));
  table.note(2, "write", at_second(150));
  EXPECT_EQ(table.check(at_second(209)), at_second(210));
  EXPECT_EQ(table.check(at_second(210)), std::nullopt);
  ASSERT_TRUE(table.broken());
  EXPECT_EQ(table.broken()->code, Code::timeout);
  EXPECT_THAT(table.broken()->what, HasSubstr("rank 2 was last seen at: write"));
}

TEST(RoundTable, TheProgressOfOneMissingRankDoesNotExcuseAnother) {
  RoundTable table = with_arrivals(4, {0, 1});
  table.note(2, "write", at_second(159));
  table.check(at_second(160));
  ASSERT_TRUE(table.broken());
  EXPECT_THAT(table.broken()->what, HasSubstr("rank 3 was last seen at: starting"));
}

TEST(RoundTable, SlowIsToldFromStuckAndStuckFromSilent) {
  RoundTable table = with_arrivals(5, {0});
  constexpr int64_t gib = int64_t{1} << 30;
  for (const int rank : {1, 2, 3}) {
    table.note(rank, "write __" + std::to_string(rank) + "_0.distcp", 0, 2 * gib, at_second(100));
    table.note(rank, "write __" + std::to_string(rank) + "_0.distcp", gib / 2, 2 * gib, at_second(108));
  }
  table.note(1, "write __1_0.distcp", gib, 2 * gib, at_second(150));  // slow
  table.hear(2, at_second(167));                                     // stuck
  table.hear(3, at_second(110));                                     // silent
  EXPECT_EQ(table.check(at_second(159)), at_second(160));            // rank 4 never came
  table.check(at_second(168));
  ASSERT_TRUE(table.broken());
  EXPECT_EQ(table.broken()->what,
            "no progress for 60000 ms while waiting for 'save': "
            "rank 2 was last seen at: write __2_0.distcp, 512.0 MiB of 2.0 GiB at 64.0 MiB/s, 60 s ago (alive, but stuck); "
            "rank 3 was last seen at: write __3_0.distcp, 512.0 MiB of 2.0 GiB at 64.0 MiB/s, 60 s ago (silent for 58 s); "
            "rank 4 was last seen at: starting; "
            "rank 1 was last seen at: write __1_0.distcp, 1.0 GiB of 2.0 GiB at 20.5 MiB/s, 18 s ago (slow)");
}

TEST(RoundTable, OnceAllHaveArrivedTheLeaderIsWaitedFor) {
  RoundTable table = with_arrivals(2, {1, 0});
  table.note(0, "publish", at_second(130));
  table.check(at_second(189));
  EXPECT_FALSE(table.broken());
  table.check(at_second(190));
  ASSERT_TRUE(table.broken());
  EXPECT_THAT(table.broken()->what, HasSubstr("rank 0 was last seen at: publish"));
}

TEST(RoundTable, ARankThatLeftBreaksTheRoundThatNeedsItAndNoneBefore) {
  RoundTable table(2, seconds(60));
  table.note(1, "tidying", start);
  table.leave(1);
  EXPECT_FALSE(table.broken());
  table.arrive(0, "save", {}, start);
  ASSERT_TRUE(table.broken());
  EXPECT_EQ(table.broken()->code, Code::peer_lost);
  EXPECT_THAT(table.broken()->what, testing::AllOf(HasSubstr("rank 1"), HasSubstr("tidying"), HasSubstr("'save'")));
}

TEST(RoundTable, AnotherPurposeBreaksIt) {
  RoundTable table = with_arrivals(3, {0, 2});
  table.arrive(1, "load", {}, start);
  ASSERT_TRUE(table.broken());
  EXPECT_EQ(table.broken()->code, Code::internal);
  EXPECT_THAT(table.broken()->what, HasSubstr("rank 1"));
}

TEST(RoundTable, ASecondMessageBeforeTheAnswerBreaksIt) {
  RoundTable table = with_arrivals(3, {0, 2});
  table.arrive(2, "save", {}, start);
  ASSERT_TRUE(table.broken());
  EXPECT_EQ(table.broken()->code, Code::internal);
}

TEST(RoundTable, TheFirstFaultStays) {
  RoundTable table(2, seconds(60));
  table.lose(1, "its connection closed");
  table.break_with({.code = Code::aborted, .what = "later"});
  EXPECT_EQ(table.broken()->code, Code::peer_lost);
}

TEST(RoundTable, OfManyMissingRanksAMessageNamesTheFirst) {
  RoundTable table = with_arrivals(1000, {0});
  table.check(at_second(200));
  ASSERT_TRUE(table.broken());
  EXPECT_THAT(table.broken()->what, testing::AllOf(HasSubstr("rank 8 "), Not(HasSubstr("rank 9 ")), HasSubstr("991 more ranks")));
}

TEST(RoundTable, TheNextRoundOpensWithTheAnswer) {
  RoundTable table(2, seconds(60));
  for (int k = 0; k < 3; ++k) {
    table.arrive(1, "round " + std::to_string(k), {std::byte{1}}, start);
    table.arrive(0, "round " + std::to_string(k), {std::byte{0}}, start);
    ASSERT_TRUE(table.complete());
    EXPECT_THAT(table.take_messages(), testing::ElementsAre(Bytes{std::byte{0}}, Bytes{std::byte{1}}));
    table.answered();
    EXPECT_FALSE(table.complete());
  }
  EXPECT_FALSE(table.broken());
}

}  // namespace
}  // namespace tessera
