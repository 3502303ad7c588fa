// tessera/comm/thread_comm.h: ranks that are threads of one process.
#pragma once

#include <memory>
#include <vector>

#include "tessera/comm/comm.h"

namespace tessera {

// One Comm a rank; give each to its own thread. They share their state, which lives as long as any of them.
// A rank that is silent for `deadline` while others wait for it is a time-out on all of them.
std::vector<std::unique_ptr<Comm>> thread_comms(int ranks, Milliseconds deadline = std::chrono::seconds(60));

}  // namespace tessera
