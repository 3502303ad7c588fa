#include <ATen/Parallel.h>

#include <csignal>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "tessera/collectives/gloo_collectives.h"
#include "tessera/collectives/job.h"
#include "tessera/collectives/job_state.h"
#include "tessera/collectives/launch_environment.h"
#include "tessera/comm/socket/socket_comm.h"

namespace tessera {
namespace {

// The threads that LibTorch starts meanwhile are born deaf to SIGPIPE: both the store and Gloo write to connections that may have closed,
// and a peer's death would end this process without a word. (A Python process ignores the signal anyway.)
class ThreadsDeafToBrokenPipes {
 public:
  ThreadsDeafToBrokenPipes() {
    sigset_t broken_pipe;
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe, &before_);
  }
  ~ThreadsDeafToBrokenPipes() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  ThreadsDeafToBrokenPipes(const ThreadsDeafToBrokenPipes&) = delete;
  ThreadsDeafToBrokenPipes& operator=(const ThreadsDeafToBrokenPipes&) = delete;

 private:
  sigset_t before_;
};

const char* variable(const char* name) { return std::getenv(name); }

constexpr const char* invitation_key = "tessera/invitation";

JobOptions with_environment(JobOptions options) {
  constexpr int most_seconds = 1'000'000;
  const auto seconds = [](const char* name, Milliseconds otherwise) {
    const int found = number_from(variable, name, 1, most_seconds, 0);
    return found ? std::chrono::seconds(found) : otherwise;
  };
  options.control_deadline = seconds("TESSERA_CONTROL_TIMEOUT_S", options.control_deadline);
  options.data_deadline = seconds("TESSERA_DATA_TIMEOUT_S", options.data_deadline);
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

}  // namespace

bool launched() { return std::getenv("WORLD_SIZE") != nullptr; }

Job join(const JobOptions& given) {
  const JobOptions options = with_environment(given);
  const auto environment = launch_environment(variable);
  if (!environment) return lone_job(options);
  // Ranks on one machine share its cores; OMP_NUM_THREADS says otherwise.
  if (environment->size > 1 && !std::getenv("OMP_NUM_THREADS")) at::set_num_threads(1);
  const ThreadsDeafToBrokenPipes deaf;
  const auto store = find_others(*environment, [&] { return meet(*environment, options.control_deadline); });
  auto state = std::make_shared<Job::State>();
  state->store = std::make_shared<c10::intrusive_ptr<c10d::Store>>(store);
  state->options = options;
  state->comm = find_others(*environment, [&] { return sit_down(*environment, *store, options.control_deadline); });
  barrier(*state->comm, "meet");  // so that a rank that never comes is missed here, by name, rather than by Gloo
  state->collectives = find_others(*environment, [&] { return gloo_collectives(store, *state->comm, options.data_deadline); });
  barrier(*state->comm, "join");  // so that rank 0's store is there until the last one has used it
  return Job(std::move(state));
}

}  // namespace tessera
