#include "tessera/collectives/launch_environment.h"

#include <charconv>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int most_ranks = 1 << 20;
constexpr int usual_port = 29500;  // torchrun's

// What a launcher calls a rank's numbers.
struct Launcher {
  const char* size;  // its presence tells the launcher
  const char* rank;
  const char* local_rank;
  const char* local_size;  // null where it has none
  const char* restarts;
};
constexpr Launcher torchrun{"WORLD_SIZE", "RANK", "LOCAL_RANK", nullptr, "TORCHELASTIC_RESTART_COUNT"};
constexpr Launcher open_mpi{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
                            nullptr};
constexpr Launcher slurm_step{"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", nullptr, "SLURM_RESTART_COUNT"};
constexpr Launcher slurm{"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", nullptr, "SLURM_RESTART_COUNT"};
constexpr Launcher pmi{"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", nullptr};

const Launcher* launcher_in(const Variables& variables) {
  for (const Launcher* one : {&torchrun, &open_mpi}) {
    if (variables(one->size)) return one;
  }
  if (variables("SLURM_STEP_ID")) {
    for (const Launcher* one : {&slurm_step, &slurm}) {
      if (variables(one->size)) return one;
    }
  }
  return variables(pmi.size) ? &pmi : nullptr;
}

Error bad(const Launcher& launcher, const char* name, const std::string& what) {
  return Error({.code = Code::invalid_argument,
                .what = std::string(name) + " " + what,
                .hint = std::string("a launcher such as torchrun sets it; unset ") + launcher.size + " to run alone"});
}

std::optional<int> find_number(const Variables& variables, const char* name, int least, int most) {
  const char* text = variables(name);
  if (!text) return std::nullopt;
  int number = 0;
  const auto [end, failure] = std::from_chars(text, text + std::strlen(text), number);
  if (failure != std::errc() || *end != '\0' || number < least || number > most) {
    throw Error({.code = Code::invalid_argument,
                 .what = std::string(name) + " is '" + text + "', which is no number from " + std::to_string(least) + " to " +
                         std::to_string(most)});
  }
  return number;
}

// "gpu" of "gpu", "node003" of "node[003-005,007],gpu1": the first host of a list as Slurm writes it.
std::string first_host(const std::string& list) {
  std::string host;
  for (size_t at = 0; at < list.size() && list[at] != ','; ++at) {
    if (list[at] != '[') {
      host += list[at];
      continue;
    }
    const size_t end = list.find(']', at);
    if (end == std::string::npos) return {};
    host += list.substr(at + 1, list.find_first_of(",-]", at) - at - 1);
    at = end;
  }
  return host;
}

const char* text_of(const Variables& variables, const char* name) {
  const char* text = variables(name);
  return text && *text ? text : nullptr;
}

std::string address_from(const Variables& variables, const Launcher& launcher, int size) {
  if (const char* address = text_of(variables, "MASTER_ADDR")) return address;
  if (&launcher == &torchrun) throw bad(launcher, "MASTER_ADDR", "is not set, though WORLD_SIZE is");
  // Of mpirun's ranks in an allocation of Slurm's, its own node list tells something else.
  if ((&launcher == &slurm_step || &launcher == &slurm) && variables("SLURM_STEP_ID")) {
    for (const char* list : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}) {
      const char* text = text_of(variables, list);
      if (const std::string host = text ? first_host(text) : std::string(); !host.empty()) return host;
    }
    if (const char* address = text_of(variables, "SLURM_LAUNCH_NODE_IPADDR")) return address;
  }
  const auto here = launcher.local_size ? find_number(variables, launcher.local_size, 1, most_ranks) : std::nullopt;
  if (size == 1 || here == size) return "127.0.0.1";
  throw Error({.code = Code::invalid_argument,
               .what = "MASTER_ADDR is not set, and the ranks are not known to be on one host",
               .hint = "set it to the host of rank 0 on every rank: mpirun -x MASTER_ADDR=HOST …"});
}

// The same for all ranks of a job, and seldom that of another job on the same host.
int port_of_job(const Variables& variables) {
  std::string job;
  for (const char* name : {"SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE"}) {
    if (const char* text = text_of(variables, name)) job += std::string(text) + "/";
  }
  if (job.empty()) return usual_port;
  uint32_t hash = 2166136261u;
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return 20000 + static_cast<int>(hash % 10000);
}

}  // namespace

int number_from(const Variables& variables, const char* name, int least, int most, int otherwise) {
  return find_number(variables, name, least, most).value_or(otherwise);
}

bool names_a_job(const Variables& variables) { return launcher_in(variables) != nullptr; }

std::optional<LaunchEnvironment> launch_environment(const Variables& variables) {
  const Launcher* launcher = launcher_in(variables);
  if (!launcher) return std::nullopt;
  const auto required = [&](const char* name, int least, int most) {
    const auto found = find_number(variables, name, least, most);
    if (!found) throw bad(*launcher, name, std::string("is not set, though ") + launcher->size + " is");
    return *found;
  };
  LaunchEnvironment environment;
  environment.size = required(launcher->size, 1, most_ranks);
  environment.rank = required(launcher->rank, 0, environment.size - 1);
  environment.local_rank = number_from(variables, launcher->local_rank, 0, most_ranks, environment.rank);
  if (launcher->restarts) environment.restart_count = number_from(variables, launcher->restarts, 0, std::numeric_limits<int>::max(), 0);
  const char* agent = variables("TORCHELASTIC_USE_AGENT_STORE");
  environment.agent_store = launcher == &torchrun && agent && std::strcmp(agent, "True") == 0;
  environment.master_address = address_from(variables, *launcher, environment.size);
  const auto port = find_number(variables, "MASTER_PORT", 1, 65535);
  if (!port && launcher == &torchrun) throw bad(*launcher, "MASTER_PORT", "is not set, though WORLD_SIZE is");
  environment.master_port = port.value_or(port_of_job(variables));
  return environment;
}

}  // namespace tessera
