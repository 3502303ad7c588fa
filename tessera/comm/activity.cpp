#include "tessera/comm/activity.h"

#include <algorithm>

#include "tessera/base/human_bytes.h"

namespace tessera {

void Activity::note(std::string_view now_doing, int64_t done, int64_t total, Time now) {
  if (doing != now_doing || done < done_bytes) {
    doing = now_doing;
    begun = now;
    begun_bytes = done;
  }
  done_bytes = done;
  total_bytes = total;
  last = now;
}

std::string describe(const Activity& activity) {
  std::string text = activity.doing;
  if (activity.done_bytes <= 0 && activity.total_bytes <= 0) return text;
  text += ", " + human_bytes(activity.done_bytes);
  text += activity.total_bytes > 0 ? " of " + human_bytes(activity.total_bytes) : " so far";
  const double seconds = std::chrono::duration<double>(activity.last - activity.begun).count();
  const double moved = static_cast<double>(activity.done_bytes) - static_cast<double>(activity.begun_bytes);
  constexpr double most = 9e18;  // fits an int64_t; whoever claims more is not believed
  if (seconds > 0) text += " at " + human_bytes(static_cast<int64_t>(std::min(moved / seconds, most))) + "/s";
  return text;
}

}  // namespace tessera
