#include "tessera/base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::StrEq;

TEST(Trace, KeepsARowAThreadWithWhatItDidUntilItIsTaken) {
  {
    const TraceSpan before("before");
  }
  record_trace();
  name_trace_row("main");
  {
    const TraceSpan outer("outer", 7);
    const TraceSpan inner("inner");
  }
  std::thread([] {
    name_trace_row("helper");
    const TraceSpan span("there");
  }).join();
  const auto rows = take_trace();
  {
    const TraceSpan after("after");
  }
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].thread, "helper");
  EXPECT_THAT(rows[0].events, ElementsAre(Field(&TraceEvent::what, StrEq("there"))));
  EXPECT_EQ(rows[1].thread, "main");
  const auto& events = rows[1].events;
  ASSERT_THAT(events, ElementsAre(Field(&TraceEvent::what, StrEq("inner")), Field(&TraceEvent::what, StrEq("outer"))));
  EXPECT_EQ(events[1].bytes, 7);
  EXPECT_EQ(events[0].bytes, -1);
  EXPECT_GE(events[0].begin_ns, events[1].begin_ns);
  EXPECT_LE(events[0].begin_ns + events[0].length_ns, events[1].begin_ns + events[1].length_ns);
  EXPECT_THAT(take_trace(), IsEmpty());
}

TEST(Trace, ASecondRecordingKnowsNothingOfTheFirst) {
  record_trace();
  {
    const TraceSpan first("first");
  }
  record_trace();
  {
    const TraceSpan second("second");
  }
  const auto rows = take_trace();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_THAT(rows[0].events, ElementsAre(Field(&TraceEvent::what, StrEq("second"))));
}

}  // namespace
}  // namespace tessera
