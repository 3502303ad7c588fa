#include "tessera/checkpoint/trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tessera/comm/thread_comm.h"
#include "tests/support/temporary_directory.h"

namespace tessera {
namespace {

using testing::IsSupersetOf;

TEST(TraceFile, HasARowAThreadAndWhatASaveAndALoadDidThere) {
  const TemporaryDirectory scratch;
  const std::string path = scratch / "trace.json";
  std::vector<float> memory(3 << 20, 1.0F);
  StateDict state;
  state.add("w", replicated(dense_view(reinterpret_cast<std::byte*>(memory.data()), DType::float32, {3 << 20})));
  TraceFile trace(path);
  auto comms = thread_comms(1);
  save(*comms[0], scratch / "step", state, {.io = {.threads = 2}});
  load(*comms[0], scratch / "step", state);
  trace.finish();
  const auto events = nlohmann::json::parse(std::ifstream(path)).at("traceEvents");
  std::set<std::string> spans, rows;
  for (const auto& event : events) {
    if (event.at("ph") == "X") {
      spans.insert(event.at("name"));
      EXPECT_GE(event.at("dur").get<double>(), 0);
    } else if (event.at("name") == "thread_name") {
      rows.insert(event.at("args").at("name"));
    }
  }
  EXPECT_THAT(spans, IsSupersetOf({"plan", "crc", "digest", "write", "sync", "publish", "read", "check"}));
  EXPECT_THAT(rows, IsSupersetOf({"rank 0", "__0_0.distcp, helper"}));
}

TEST(TraceFile, WithoutAPathRecordsNothing) {
  TraceFile trace("");
  {
    const TraceSpan span("nothing");
  }
  EXPECT_TRUE(take_trace().empty());
}

TEST(TraceFile, APlaceThatCannotBeWrittenIsAnError) {
  TraceFile trace("/proc/no/such/place");
  EXPECT_EQ(capture([&] { trace.finish(); }).fault.code, Code::not_found);
}

}  // namespace
}  // namespace tessera
