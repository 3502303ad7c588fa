// tessera/collectives/gloo_collectives.h: ranks that are processes, over c10d's Gloo.
// Needs no header of gloo: the wheel's libtorch holds the code, and its process group names gloo's types without holding one.
#pragma once

#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"
#include "tessera/collectives/members.h"
#include "tessera/comm/comm.h"

namespace tessera {

// Collective: every one of `members` makes one over the same store. `control`, the Comm of the whole job, which outlives it and its Works,
// says which rank is lost: Gloo itself sees a closed connection and cannot say whose. It also ends the wait for a rank that hangs, and
// carries abort(), which breaks it.
std::unique_ptr<Collectives> gloo_collectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members, Milliseconds deadline);

}  // namespace tessera
