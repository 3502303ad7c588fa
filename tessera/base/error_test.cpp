#include "tessera/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace tessera {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Describe, AnswersWhoWhereAndWhyInThisOrder) {
  Fault fault = os_fault(ENOSPC, "write", "__3_0.distcp", 1073741824);
  fault.rank = 3;
  fault.phase = Phase::write;
  fault.same_on = 511;
  EXPECT_EQ(describe(fault),
            "rank 3, write, __3_0.distcp at byte 1073741824: write: No space left on device (ENOSPC); same on 511 other ranks");
  fault.same_on = 1;
  EXPECT_THAT(describe(fault), HasSubstr("; same on 1 other rank"));
  EXPECT_THAT(describe(fault), Not(HasSubstr("other ranks")));
}

TEST(Describe, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(describe({.code = Code::corrupt, .what = "file ends early"}), "file ends early");
  EXPECT_EQ(describe({.code = Code::corrupt, .what = "file ends early", .file = "f"}), "f: file ends early");
  EXPECT_EQ(describe({.code = Code::corrupt, .what = "file ends early", .file = "f", .offset_bytes = 0}), "f at byte 0: file ends early");
  EXPECT_EQ(describe({.code = Code::timeout, .what = "no word", .rank = 0, .phase = Phase::plan}), "rank 0, plan: no word");
}

TEST(Describe, TellsAnErrnoWithoutAName) { EXPECT_THAT(describe(os_fault(99999, "open")), HasSubstr("errno 99999")); }

TEST(Error, ItsTextIsTheDescriptionAndThenTheHint) {
  EXPECT_STREQ(Error({.what = "no", .hint = "try"}).what(), "no\nhint: try");
  EXPECT_STREQ(Error({.what = "no"}).what(), "no");
}

TEST(OsFault, TheCodeFollowsFromErrno) {
  for (const auto& [number, code] :
       {std::pair(ENOENT, Code::not_found), std::pair(ENOTDIR, Code::not_found), std::pair(EEXIST, Code::exists),
        std::pair(ENOTEMPTY, Code::exists), std::pair(ENOSPC, Code::no_space), std::pair(EDQUOT, Code::no_space), std::pair(EIO, Code::io),
        std::pair(EACCES, Code::io), std::pair(EROFS, Code::io)}) {
    const Fault fault = os_fault(number, "open", "f", 7);
    EXPECT_EQ(fault.code, code) << number;
    EXPECT_EQ(fault.os_errno, number);
    EXPECT_EQ(fault.file, "f");
    EXPECT_EQ(fault.offset_bytes, 7);
  }
}

TEST(OsFault, SaysWhatNextWhereAPersonCanDoSomething) {
  for (const int number : {ENOSPC, EDQUOT, EACCES, EPERM, EROFS}) EXPECT_FALSE(os_fault(number, "open").hint.empty()) << number;
  EXPECT_EQ(os_fault(EIO, "read").hint, "");
}

TEST(ExitCode, TellsDamageUsageInputAndRanksApart) {
  EXPECT_EQ(exit_code(Code::corrupt), 1);
  EXPECT_EQ(exit_code(Code::mismatch), 1);
  EXPECT_EQ(exit_code(Code::invalid_argument), 2);
  for (const Code code :
       {Code::not_found, Code::exists, Code::unsupported, Code::limit, Code::io, Code::no_space, Code::no_memory, Code::internal}) {
    EXPECT_EQ(exit_code(code), 3) << name(code);
  }
  for (const Code code : {Code::timeout, Code::peer_lost, Code::aborted}) EXPECT_EQ(exit_code(code), 4) << name(code);
}

TEST(Names, EveryCodeAndEveryPhaseHasItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(Code::internal); ++i) names.insert(name(static_cast<Code>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Code::internal) + 1);
  EXPECT_FALSE(names.contains("unknown"));
  names.clear();
  for (int i = 0; i <= static_cast<int>(Phase::train); ++i) names.insert(name(static_cast<Phase>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Phase::train) + 1);
  EXPECT_FALSE(names.contains("unknown"));
}

TEST(Names, ANumberThatAPeerMadeUpIsUnknownAndNoMore) {
  EXPECT_STREQ(name(static_cast<Code>(200)), "unknown");
  EXPECT_STREQ(name(static_cast<Phase>(200)), "unknown");
  EXPECT_EQ(exit_code(static_cast<Code>(200)), 3);
}

TEST(Capture, HoldsTheValueOrTheFault) {
  auto held = capture([] { return std::string("v"); });
  ASSERT_TRUE(held);
  EXPECT_EQ(held.or_throw(), "v");
  const auto done = capture([] {});
  EXPECT_TRUE(done);
  const Fault fault{.code = Code::timeout, .what = "late", .file = "f", .rank = 2};
  auto failed = capture([&]() -> int { throw Error(fault); });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.fault, fault);
  try {
    failed.or_throw();
    FAIL() << "an outcome without a value must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault);
  }
}

TEST(Capture, TakesWhateverIsThrown) {
  EXPECT_EQ(capture([] { throw std::bad_alloc(); }).fault.code, Code::no_memory);
  EXPECT_EQ(capture([] { throw 5; }).fault.code, Code::internal);
  const Fault foreign = capture([] { throw std::runtime_error("shapes differ\nException raised from f at x.cpp:1\nframe #0"); }).fault;
  EXPECT_EQ(foreign.code, Code::internal);
  EXPECT_EQ(foreign.what, "shapes differ");
}

}  // namespace
}  // namespace tessera
