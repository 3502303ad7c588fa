// tessera/collectives/launch_environment.h: what a launcher tells a rank about its job, in the environment.
// Source      torchrun (torch.distributed.elastic.agent.server.local_elastic_agent) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
//             MASTER_PORT, TORCHELASTIC_RESTART_COUNT, and TORCHELASTIC_USE_AGENT_STORE where it serves the store itself.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace tessera {

struct LaunchEnvironment {
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  std::string master_address;
  int master_port = 0;
  int restart_count = 0;
  bool agent_store = false;  // the launcher serves the store: no rank does
};

// The variable's value, or null; std::getenv in earnest.
using Variables = std::function<const char*(const char* name)>;

// Nothing where WORLD_SIZE is not set: no launcher started this process.
// Errors  Error(invalid_argument) that names the variable that is missing or makes no sense.
std::optional<LaunchEnvironment> launch_environment(const Variables& variables);

// A variable as a number from `least` to `most`, or `otherwise` where it is not set.
int number_from(const Variables& variables, const char* name, int least, int most, int otherwise);

}  // namespace tessera
