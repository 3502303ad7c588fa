// tessera/collectives/checked_collectives.h: asks all ranks what they launch before any of it begins, over a transport that does not look.
// Cost        A small all_gather before each operation, which waits for all ranks: nothing overlaps any more. For finding an error.
// Errors      Error(mismatch) on every rank, naming two that launched different operations; from then on at every launch.
#pragma once

#include <memory>
#include <vector>

#include "tessera/collectives/collectives.h"

namespace tessera {

// `job_ranks` are the ranks of `inner` by their numbers in the job. What is split from it is checked as well.
std::unique_ptr<Collectives> checked_collectives(std::unique_ptr<Collectives> inner, std::vector<int> job_ranks);

}  // namespace tessera
