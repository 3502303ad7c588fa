// tessera/checkpoint/stop_signal.h: being told to go: SIGTERM, as a scheduler sends it some seconds before it kills. The signal is noted
// and nothing else; the training loop asks at a place where it can save.
//   StopSignal stop;
//   for (...) {
//     ...
//     if (const auto deadline = stop.on_any_rank(job)) {
//       steps.finish(*deadline);                  // what is under way
//       steps.async_save(n, train);
//       return steps.finish(*deadline) ? 0 : 1;   // published by then, or the step before still stands
//     }
//   }
// Threads     Signals are the process's: one StopSignal at a time, Error(exists) for a second. Ranks that are threads share one.
#pragma once

#include <csignal>
#include <optional>
#include <vector>

#include "tessera/base/deadline.h"
#include "tessera/comm/comm.h"

namespace tessera {

class StopSignal {
 public:
  // `grace` is the time from the signal to the end that the scheduler allows, less what the program needs to leave. Signals that were
  // ignored stay ignored; what handled them before does so again when this ends.
  explicit StopSignal(Milliseconds grace = std::chrono::seconds(20), const std::vector<int>& signals = {SIGTERM});
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Until when this process may work on, once it was told to go.
  std::optional<Deadline> on_this_rank() const;
  // The same for a job, where the word comes to each rank at its own time or not at all: the earliest of all ranks. Collective: one
  // round, so all ranks get an answer at the same place.
  std::optional<Deadline> on_any_rank(Comm& comm) const;

 private:
  struct Before {
    int signal;
    struct sigaction action;
  };
  const Milliseconds grace_;
  std::vector<Before> before_;
};

}  // namespace tessera
