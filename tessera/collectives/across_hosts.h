// tessera/collectives/across_hosts.h: ranks on several hosts: all together over sockets, a group within one host over its memory.
// So a mesh whose rows are hosts (hybrid strategies) gathers and scatters in memory, and only replicas meet over the network.
#pragma once

#include <memory>
#include <vector>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"
#include "tessera/collectives/members.h"
#include "tessera/comm/comm.h"

namespace tessera {

// `sockets` as it is, but for split(): its groups share memory where each lies within one host and can share it, and go over sockets
// otherwise, all alike. `hosts` says by a number where each rank of the job is; `members` is who computes in `sockets`, and `control` the
// Comm of the whole job, which outlives it.
std::unique_ptr<Collectives> across_hosts(std::unique_ptr<Collectives> sockets, Members members, std::vector<int> hosts, Comm& control,
                                          Milliseconds deadline);

}  // namespace tessera
