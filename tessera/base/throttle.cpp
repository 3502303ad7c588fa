#include "tessera/base/throttle.h"

#include <algorithm>

namespace tessera {

void Throttle::pass(int64_t bytes) {
  if (rate_ <= 0) return;
  using Clock = std::chrono::steady_clock;
  const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_);
  const auto begin = state_.with([&](State& state) {
    const auto mine = std::max(state.free_at, Clock::now());
    state.free_at = mine + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    return mine;
  });
  while (Clock::now() < begin) {
    const auto left = std::chrono::ceil<Milliseconds>(begin - Clock::now());
    if (state_.when(Deadline::after(left), [](const State& state) { return state.ended; }, [](State&) {})) return;
  }
}

void Throttle::end() noexcept {
  state_.with([](State& state) { state.ended = true; });
}

}  // namespace tessera
