#include "tessera/base/throttle.h"

#include <algorithm>
#include <thread>

namespace tessera {

void Throttle::pass(int64_t bytes) {
  if (rate_ <= 0) return;
  using Clock = std::chrono::steady_clock;
  const auto takes = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(bytes) / rate_));
  const auto begin = free_at_.with([&](Clock::time_point& free_at) {
    const auto mine = std::max(free_at, Clock::now());
    free_at = mine + takes;
    return mine;
  });
  std::this_thread::sleep_until(begin);
}

}  // namespace tessera
