// tessera/collectives/thread_collectives.h: ranks that are threads of one process; what they exchange is copied in memory.
// Progress    A rank does its share of an operation while it waits: for it, or for a later one, of this group or another. Operations are
//             carried out in the order of their launch, so ranks may wait in any order.
#pragma once

#include <memory>
#include <vector>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"

namespace tessera {

// One for each rank; give each to its own thread. They share their state, which lives as long as any of them.
std::vector<std::unique_ptr<Collectives>> thread_collectives(int ranks, Milliseconds deadline = std::chrono::minutes(10));

// For a rank on its own.
std::unique_ptr<Collectives> lone_collectives();

}  // namespace tessera
