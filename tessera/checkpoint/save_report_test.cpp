#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/checkpoint/save.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(SaveReport, SaysInOneLineWhatWasDoneAndHowFast) {
  SaveReport report{.planned = Planned::reused,
                    .total_bytes = int64_t{4} << 20,
                    .rank_bytes = int64_t{2} << 20,
                    .verified_bytes = int64_t{4} << 20,
                    .seconds = 2,
                    .stall_seconds = 0.25,
                    .plan_seconds = 0.5,
                    .write_seconds = 1,
                    .publish_seconds = 0.5,
                    .write = {.threads = 1}};
  const std::string line = describe(report);
  EXPECT_THAT(line, HasSubstr("bytes=4194304 seconds=2.000 plan=0.500 write=1.000 publish=0.500 stall=0.250 rate=2.0 MiB/s"));
  EXPECT_THAT(line, HasSubstr("verified=4194304"));
  EXPECT_THAT(line, HasSubstr("; planned as before; buffered, 1 thread (not probed)"));
  EXPECT_THAT(line, Not(HasSubstr("staged")));
  report.write = {.mode = WriteMode::direct, .threads = 2, .bytes_per_second = 3 << 20, .why = "probed"};
  report.peak_staging_bytes = 1 << 20;
  report.in_waves = true;
  report.warnings = {"a step stays"};
  EXPECT_THAT(describe(report), HasSubstr("rank=2.0 MiB/s of 3.0 MiB/s"));
  EXPECT_THAT(describe(report), HasSubstr("staged=1.0 MiB in waves"));
  EXPECT_THAT(describe(report), HasSubstr("direct, 2 threads (probed); warning: a step stays"));
}

}  // namespace
}  // namespace tessera
