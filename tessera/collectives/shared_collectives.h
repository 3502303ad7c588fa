// tessera/collectives/shared_collectives.h: ranks that are processes of one host, over memory that they share.
// Progress    Each rank has a thread of its own that carries operations out while the rank computes; a rank that waits helps it.
// Memory      4 MiB a rank, whatever the tensors' sizes; no names, no files: gone with the processes, however they end.
// Determinism As threads: in rank order, halves summed in float32 and rounded once.
// Loss        A rank that dies, hangs or leaves is named, with the operation: the control plane notices the first two.
#pragma once

#include <memory>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"
#include "tessera/collectives/members.h"
#include "tessera/collectives/shared_exchange.h"
#include "tessera/comm/comm.h"

namespace tessera {

// Collective over `control`, the Comm of the whole job, which outlives it and its Works: it brings the ranks together, says which is lost,
// and carries abort(), which breaks it.
// Errors      Error(unsupported), alike on all ranks, where one cannot share memory with the others.
std::unique_ptr<Collectives> shared_collectives(Comm& control, Milliseconds deadline, const SharedSlots& slots = {});

// The groups that `whole` is being split into: every rank of it calls this at once, with who is in its own group (agree_on_split) and the
// first of them, by its number in `whole`.
// Errors      The same, alike on all ranks of all groups.
std::unique_ptr<Collectives> shared_group(Collectives& whole, Members group, int first, Comm& control, Milliseconds deadline,
                                          const SharedSlots& slots = {});

}  // namespace tessera
