// tessera/collectives/job_state.h: what the handles of one rank's Job share.
#pragma once

#include <memory>
#include <optional>

#include "tessera/base/guarded.h"
#include "tessera/collectives/job.h"

namespace tessera {

// Whose turn it is among the ranks of one process.
struct Turns {
  struct Table {
    int next = 0;
    std::optional<Fault> failed;   // in this round of turns
    std::optional<Fault> aborted;  // for good
  };
  explicit Turns(int ranks) : ranks(ranks) {}
  const int ranks;
  Guarded<Table> table;
};

struct Job::State {
  JobOptions options;
  std::shared_ptr<Turns> turns = {};  // null where this rank has the process for itself
  std::shared_ptr<void> store = {};   // that the ranks met at; outlives what was built on it
  std::unique_ptr<Comm> comm = {};
  std::unique_ptr<Collectives> collectives = {};
  int local_rank = 0;
  // Where an exception ends a rank that is a process, it tells the others whose fault it is before it leaves.
  ~State();
};

// A job of this process alone.
Job lone_job(const JobOptions& options);

}  // namespace tessera
