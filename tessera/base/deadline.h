// tessera/base/deadline.h: the moment after which waiting is an error. Every wait takes one.
#pragma once

#include <algorithm>
#include <chrono>

namespace tessera {

using Milliseconds = std::chrono::milliseconds;

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;
  // A duration too long for the clock, such as Milliseconds::max(), means never.
  static Deadline after(Milliseconds duration) {
    const auto now = Clock::now();
    const auto longest = std::chrono::duration_cast<Milliseconds>(Clock::time_point::max() - now);
    return Deadline(duration < longest ? now + duration : Clock::time_point::max());
  }
  bool expired() const { return Clock::now() >= at_; }
  // What is left, never negative.
  Milliseconds remaining() const { return std::max(Milliseconds(0), std::chrono::duration_cast<Milliseconds>(at_ - Clock::now())); }
  Clock::time_point at() const { return at_; }

 private:
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

}  // namespace tessera
