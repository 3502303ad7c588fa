// tests/support/launch/launch.h: runs N ranks of a command as processes of this machine, as torchrun would, but small.
// Environment RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR (127.0.0.1), MASTER_PORT (a free one),
// TORCHELASTIC_RESTART_COUNT. Output      Both streams of a rank, line by line, each line tagged "[rank r] ". What the launcher says itself
// is tagged "[launch] ". Failure     The first rank that ends badly is named. The others have `grace` to end by themselves, then they are
// ended. At `deadline` all are. No orphans  A rank is killed when the launcher ends, however that happens.
#pragma once

#include <chrono>
#include <ostream>
#include <string>
#include <vector>

namespace tessera {

struct LaunchOptions {
  int ranks = 1;
  std::chrono::milliseconds deadline = std::chrono::minutes(10);
  std::chrono::milliseconds grace = std::chrono::seconds(15);
  std::vector<std::string> command;
};

// The exit code of the first rank that failed (128 + signal for one that was killed), 124 at the deadline, else 0.
int launch(const LaunchOptions& options, std::ostream& out);

}  // namespace tessera
