// tessera/collectives/nccl_collectives.h: ranks that are processes with a GPU each, over c10d's NCCL.
// Built only where the LibTorch that was found has it (tools/check_cuda.sh compiles it anywhere); it has never run. join() puts it beside
// what carries tensors in host memory (by_device.h).
// Devices     Tensors are on this rank's GPU. wait() makes the current stream wait, not the caller, and lets the host go on.
// Errors      What NCCL says while operations are launched. A rank that is lost later is found by NCCL's own watchdog, at `deadline`, and
//             by the control plane at the next launch.
// Determinism NCCL's: the order of a reduction is that of its ring or tree.
#pragma once

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"
#include "tessera/collectives/members.h"
#include "tessera/comm/comm.h"

namespace tessera {

// The UUID of the GPU that rank `local_rank` of this host is to use, of those that it sees; empty where it sees none. NCCL is for ranks
// that have one each.
std::string gpu_of(int local_rank);

// Collective: every one of `members` makes one over the same store, after it chose its GPU. `control`, the Comm of the whole job, outlives
// it and carries abort().
std::unique_ptr<Collectives> nccl_collectives(c10::intrusive_ptr<c10d::Store> store, Comm& control, Members members, Milliseconds deadline);

}  // namespace tessera
