#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "tessera/collectives/across_hosts.h"
#include "tessera/collectives/by_device.h"
#include "tessera/collectives/checked_collectives.h"
#include "tessera/collectives/deaf_threads.h"
#include "tessera/collectives/gloo_collectives.h"
#include "tessera/collectives/job.h"
#include "tessera/collectives/job_state.h"
#include "tessera/collectives/launch_environment.h"
#ifdef TESSERA_NCCL
#include "tessera/collectives/nccl_collectives.h"
#endif
#include "tessera/collectives/shared_collectives.h"
#include "tessera/collectives/through_host.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

const char* variable(const char* name) { return std::getenv(name); }

constexpr const char* invitation_key = "tessera/invitation";

Transport transport_named(const std::string& name) {
  if (name == "automatic") return Transport::automatic;
  if (name == "gloo") return Transport::gloo;
  if (name == "shared_memory") return Transport::shared_memory;
  throw Error(
      {.code = Code::invalid_argument, .what = "TESSERA_TRANSPORT is '" + name + "'", .hint = "it is automatic, gloo or shared_memory"});
}

GpuTransport gpu_transport_named(const std::string& name) {
  if (name == "automatic") return GpuTransport::automatic;
  if (name == "nccl") return GpuTransport::nccl;
  if (name == "host") return GpuTransport::host;
  throw Error({.code = Code::invalid_argument, .what = "TESSERA_GPU_TRANSPORT is '" + name + "'", .hint = "it is automatic, nccl or host"});
}

JobOptions with_environment(JobOptions options) {
  constexpr int most_seconds = 1'000'000;
  const auto seconds = [](const char* name, Milliseconds otherwise) {
    const int found = number_from(variable, name, 1, most_seconds, 0);
    return found ? std::chrono::seconds(found) : otherwise;
  };
  options.control_deadline = seconds("TESSERA_CONTROL_TIMEOUT_S", options.control_deadline);
  options.data_deadline = seconds("TESSERA_DATA_TIMEOUT_S", options.data_deadline);
  if (const char* transport = variable("TESSERA_TRANSPORT")) options.transport = transport_named(transport);
  if (const char* transport = variable("TESSERA_GPU_TRANSPORT")) options.gpu_transport = gpu_transport_named(transport);
  options.check_order = number_from(variable, "TESSERA_CHECK_ORDER", 0, 1, options.check_order ? 1 : 0) == 1;
  return options;
}

// What c10d throws while the ranks find each other, as an Error that says who was looking where. Ours pass as they are.
template <class Work>
auto find_others(const LaunchEnvironment& environment, Work work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string what(error.what());
    throw Error({.code = Code::timeout,
                 .what = "rank " + std::to_string(environment.rank) + " could not meet the others at " + environment.master_address + ":" +
                         std::to_string(environment.master_port) + ": " + what.substr(0, what.find('\n'))});
  }
}

// The store that brings the ranks together: served by the launcher, or else by rank 0.
c10::intrusive_ptr<c10d::Store> meet(const LaunchEnvironment& environment, Milliseconds deadline) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(environment.master_port);
  options.isServer = environment.rank == 0 && !environment.agent_store;
  options.waitWorkers = false;
  options.timeout = deadline;
  const auto store = c10::make_intrusive<c10d::TCPStore>(environment.master_address, options);
  return c10::make_intrusive<c10d::PrefixStore>("tessera/" + std::to_string(environment.restart_count), store);
}

// The leader leaves its invitation in the store; the others find it there.
std::unique_ptr<Comm> sit_down(const LaunchEnvironment& environment, c10d::Store& store, Milliseconds deadline) {
  const SocketOptions options{.rank = environment.rank, .size = environment.size, .deadline = deadline};
  if (environment.rank == 0) {
    SocketLeader leader = socket_leader({.address = environment.master_address}, options);
    store.set(invitation_key, std::vector<uint8_t>(leader.invitation.begin(), leader.invitation.end()));
    return std::move(leader.comm);
  }
  const std::vector<uint8_t> invitation = store.get(invitation_key);
  return socket_follower(std::string(invitation.begin(), invitation.end()), options);
}

// The same on all ranks: a number for each, and equal numbers for those that can share memory.
std::vector<int> hosts_of_ranks(Comm& control) {
  const std::string mine = meeting_ground();
  const auto bytes = as_bytes(mine);
  const auto grounds = all_gather(control, "meeting grounds", {bytes.begin(), bytes.end()});
  std::vector<int> hosts;
  for (size_t r = 0; r < grounds.size(); ++r) {
    // Who does not know where it is, is alone there.
    const auto same = grounds[r].empty() ? grounds.begin() + static_cast<std::ptrdiff_t>(r) : std::ranges::find(grounds, grounds[r]);
    hosts.push_back(static_cast<int>(same - grounds.begin()));
  }
  return hosts;
}

// Of tensors in host memory.
std::unique_ptr<Collectives> host_plane(const LaunchEnvironment& environment, const c10::intrusive_ptr<c10d::Store>& store, Comm& control,
                                        const JobOptions& options) {
  std::vector<int> hosts;
  if (options.transport != Transport::gloo) {
    hosts = hosts_of_ranks(control);
    const bool one_host = std::ranges::all_of(hosts, [&](int host) { return host == hosts.front(); });
    const bool must = options.transport == Transport::shared_memory;
    if (!one_host && must)
      throw Error({.code = Code::unsupported, .what = "the ranks are not all where they can share memory: on one host, as one user"});
    if (one_host) {
      auto shared = capture([&] { return shared_collectives(control, options.data_deadline); });
      // One rank's trouble is everyone's Error(unsupported), so that all turn to Gloo or none does.
      if (shared || must || shared.fault.code != Code::unsupported) return std::move(shared).or_throw();
    }
  }
  Members all = all_members(control.rank(), control.size());
  auto gloo = find_others(environment, [&] { return gloo_collectives(store, control, all, options.data_deadline); });
  if (options.check_order) gloo = checked_collectives(std::move(gloo), all.ranks);
  return hosts.empty() ? std::move(gloo) : across_hosts(std::move(gloo), std::move(all), std::move(hosts), control, options.data_deadline);
}

std::unique_ptr<Collectives> data_plane(const LaunchEnvironment& environment, const c10::intrusive_ptr<c10d::Store>& store, Comm& control,
                                        const JobOptions& options) {
  auto host = host_plane(environment, store, control, options);
#ifdef TESSERA_NCCL
  if (options.gpu_transport != GpuTransport::host) {
    const std::string mine = gpu_of(environment.local_rank);
    const auto bytes = as_bytes(mine);
    const auto gpus = all_gather(control, "gpus", {bytes.begin(), bytes.end()});
    const std::set<Bytes> different(gpus.begin(), gpus.end());
    if (different.size() == gpus.size() && !different.contains(Bytes())) {
      const auto place = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
      auto nccl = nccl_collectives(place, control, all_members(control.rank(), control.size()), options.data_deadline);
      return by_device(std::move(host), std::move(nccl));
    }
  }
#endif
  if (options.gpu_transport == GpuTransport::nccl) {
    throw Error({.code = Code::unsupported,
                 .what = "no NCCL for these ranks",
                 .hint = "it takes a LibTorch that has it, and a GPU for each rank, the one that its number on its host says"});
  }
  return through_host(std::move(host));
}

}  // namespace

bool launched() { return names_a_job(variable); }

Job join(const JobOptions& given) {
  const JobOptions options = with_environment(given);
  const auto environment = launch_environment(variable);
  if (!environment) return lone_job(options);
  // Ranks on one machine share its cores; OMP_NUM_THREADS says otherwise.
  if (environment->size > 1 && !std::getenv("OMP_NUM_THREADS")) at::set_num_threads(1);
  const ThreadsDeafToBrokenPipes deaf;
  const auto store = find_others(*environment, [&] { return meet(*environment, options.control_deadline); });
  auto state = std::make_shared<Job::State>();
  state->local_rank = environment->local_rank;
  state->store = std::make_shared<c10::intrusive_ptr<c10d::Store>>(store);
  state->options = options;
  state->comm = find_others(*environment, [&] { return sit_down(*environment, *store, options.control_deadline); });
  barrier(*state->comm, "meet");  // so that a rank that never comes is missed here, by name, rather than by Gloo
  state->collectives = data_plane(*environment, store, *state->comm, options);
  if (options.around) state->collectives = options.around(std::move(state->collectives));
  barrier(*state->comm, "join");  // so that rank 0's store is there until the last one has used it
  return Job(std::move(state));
}

}  // namespace tessera
