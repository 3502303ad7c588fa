// tessera/comm/activity.h: what a rank is doing, how far it is and how fast, for the messages of others.
#pragma once

#include <string>
#include <string_view>

#include "tessera/base/deadline.h"

namespace tessera {

struct Activity {
  using Time = Deadline::Clock::time_point;
  std::string doing = "starting";
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;  // 0 where nobody knows, or nothing is counted
  Time begun = {};          // when it was first said of this doing, and how far it was then
  int64_t begun_bytes = 0;
  Time last = {};

  // The rank says it again, further on, or turned to something else.
  void note(std::string_view now_doing, int64_t done, int64_t total, Time now);
};

// "write __3_0.distcp, 512.0 MiB of 2.0 GiB at 41.0 MiB/s".
std::string describe(const Activity& activity);

}  // namespace tessera
