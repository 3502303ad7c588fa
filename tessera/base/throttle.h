// tessera/base/throttle.h: a rate that a stream of bytes does not exceed, whoever of several threads has the next ones.
// Promises    Over any stretch of time no more than rate × time + one piece. Nothing is saved up while nobody writes.
// Threads     Any.
#pragma once

#include <chrono>
#include <cstdint>

#include "tessera/base/guarded.h"

namespace tessera {

class Throttle {
 public:
  // 0: no limit.
  explicit Throttle(int64_t bytes_per_second) : rate_(bytes_per_second) {}
  // Waits until `bytes` more may go, or until end().
  void pass(int64_t bytes);
  // Nobody waits any more, now or later.
  void end() noexcept;

 private:
  struct State {
    std::chrono::steady_clock::time_point free_at;  // when all that was let through is through
    bool ended = false;
  };
  const int64_t rate_;
  Guarded<State> state_;
};

}  // namespace tessera
