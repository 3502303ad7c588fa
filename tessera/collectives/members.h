// tessera/collectives/members.h: which ranks of a job compute together in one Collectives.
#pragma once

#include <vector>

#include "tessera/collectives/collectives.h"

namespace tessera {

struct Members {
  std::vector<int> ranks;  // by their numbers in the job, ascending
  int mine = 0;            // this rank's place among them
  int size() const { return static_cast<int>(ranks.size()); }
  int job_rank(int place) const { return ranks[static_cast<size_t>(place)]; }
};

// All ranks of a job of `size`.
Members all_members(int rank, int size);

// The first half of Collectives::split(): every rank of `whole`, whose members are `of`, says which group it is in, and each learns whether
// that fits together.
// Errors      Error(invalid_argument), alike on all ranks, for groups that overlap or leave out who named them.
Members agree_on_split(Collectives& whole, const Members& of, const std::vector<int>& ranks);

}  // namespace tessera
