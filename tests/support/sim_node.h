// tests/support/sim_node.h: the two kinds of node: the leader, who keeps the RoundTable, and the followers.
#pragma once

#include "tests/support/sim_comm.h"

namespace tessera {

std::unique_ptr<SimNode> sim_leader(SimJob& job);
std::unique_ptr<SimNode> sim_follower(SimJob& job, int rank);

}  // namespace tessera
