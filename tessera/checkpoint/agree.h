// tessera/checkpoint/agree.h: how the ranks of a save come to one plan.
// One round     Each rank hands the leader digests of what it holds, and hears what to do: use the plan of the last save again; plan for
//               itself, where every tensor has a layout and all ranks' tables of them are equal; or describe itself in a second round, in
//               which the leader plans for all. No description travels in the steady state.
// Promises      The same plan, whichever way. Objects that all ranks share are compared by digest each time.
// Errors        What describe() and plan_save() throw, on every rank alike.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "tessera/checkpoint/plan_cache.h"
#include "tessera/checkpoint/save.h"
#include "tessera/comm/comm.h"
#include "tessera/plan/description.h"

namespace tessera {

struct Agreement {
  std::string save_id;
  int64_t total_bytes = 0;  // of all ranks' files
  Planned planned = Planned::described;
  // What this rank has to write, as the cache holds it; or why it could not plan for itself, which the others have yet to hear.
  Outcome<const RankWrites*> writes;
};

// Collective. Leaves the plan in `cache`, on the leader the whole of it, with the save id in its manifest.
// `describe` says what this rank holds; what it throws, every rank throws. With `compare_replicas` descriptions travel always, with the
// digests of what more than one rank holds.
Agreement agree_on_plan(Comm& comm, const std::function<const Described&()>& describe, bool compare_replicas, PlanCache& cache);

}  // namespace tessera
