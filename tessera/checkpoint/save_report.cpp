#include <cstdio>

#include "tessera/base/human_bytes.h"
#include "tessera/checkpoint/save.h"

namespace tessera {
namespace {

std::string rate(int64_t bytes, double seconds) {
  return seconds > 0 ? human_bytes(static_cast<int64_t>(static_cast<double>(bytes) / seconds)) + "/s" : std::string("?");
}

const char* name(Planned planned) {
  switch (planned) {
    case Planned::described: return "from descriptions";
    case Planned::derived: return "from layouts";
    case Planned::reused: return "as before";
  }
  return "?";
}

}  // namespace

std::string describe(const SaveReport& report) {
  char times[160];
  std::snprintf(times, sizeof times, "seconds=%.3f plan=%.3f write=%.3f publish=%.3f stall=%.3f", report.seconds, report.plan_seconds,
                report.write_seconds, report.publish_seconds, report.stall_seconds);
  std::string text = "bytes=" + std::to_string(report.total_bytes) + " " + times + " rate=" + rate(report.total_bytes, report.seconds);
  // What was measured is of one writer; a rank is one.
  if (report.write.bytes_per_second > 0)
    text += " rank=" + rate(report.rank_bytes, report.write_seconds) + " of " +
            human_bytes(static_cast<int64_t>(report.write.bytes_per_second)) + "/s";
  text += " verified=" + std::to_string(report.verified_bytes);
  if (report.peak_staging_bytes > 0) {
    text += " staged=" + human_bytes(report.peak_staging_bytes);
    if (report.in_waves) text += " in waves";
  }
  text += std::string("; planned ") + name(report.planned) + "; " + tessera::name(report.write.mode) + ", " +
          std::to_string(report.write.threads) + (report.write.threads == 1 ? " thread" : " threads") + " (" + report.write.why + ")";
  for (const std::string& warning : report.warnings) text += "; warning: " + warning;
  return text;
}

}  // namespace tessera
