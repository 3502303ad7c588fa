// tessera/collectives/job.h: the ranks that work together, as one of them sees them.
// A Job is a handle: copies share one Comm (control plane) and one Collectives (data plane), which live as long as any copy.
// GPUs        Tensors on GPUs go over NCCL where LibTorch has it and every rank a GPU of its own (the one that local_rank() says, of those
//             that it sees); otherwise through host memory. Those in host memory go as `transport` says. Ranks that are threads need a GPU
//             each: LibTorch runs backward in one thread for a GPU.
// Environment That of torchrun, mpirun or srun (launch_environment.h).
// Threads     One thread works for a rank: the one that joined, or the one that run_ranks gave.
#pragma once

#include <functional>
#include <memory>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collectives.h"
#include "tessera/comm/comm.h"

namespace tessera {

// How ranks that are processes hand each other tensors.
enum class Transport {
  automatic,      // shared memory where all ranks are on one host and can share it, else Gloo; within a host, a group shares memory
  gloo,           // sockets
  shared_memory,  // Error(unsupported) where ranks cannot share it
};

// How they hand each other tensors that are on GPUs.
enum class GpuTransport {
  automatic,  // NCCL where LibTorch has it and every rank a GPU of its own, else through host memory
  nccl,       // Error(unsupported) where it is not so
  host,       // through host memory: as `transport` carries that (through_host.h)
};

struct JobOptions {
  Milliseconds control_deadline = std::chrono::seconds(60);  // since a peer's last progress; TESSERA_CONTROL_TIMEOUT_S
  Milliseconds data_deadline = std::chrono::minutes(10);     // for one collective; TESSERA_DATA_TIMEOUT_S
  Transport transport = Transport::automatic;                // TESSERA_TRANSPORT: automatic, gloo or shared_memory
  GpuTransport gpu_transport = GpuTransport::automatic;      // TESSERA_GPU_TRANSPORT: automatic, nccl or host
  // Over Gloo, ask all ranks before each operation whether they launch the same (checked_collectives.h); the others always look.
  bool check_order = false;  // TESSERA_CHECK_ORDER: 1 or 0
  // Puts something around the data plane: a DelayedCollectives, say.
  std::function<std::unique_ptr<Collectives>(std::unique_ptr<Collectives>)> around = {};
};

class Job {
 public:
  int rank() const;
  int size() const;
  // Among the ranks of this host, as the launcher counts them: which GPU is this rank's. rank() for threads.
  int local_rank() const;
  // The ranks are threads of this process, and more than one.
  bool in_one_process() const;
  Comm& comm() const;
  Collectives& collectives() const;
  operator Comm&() const { return comm(); }  // NOLINT: a job is what the verbs of checkpoint/ run on
  // Runs `work` alone among the ranks that share this process, in rank order: LibTorch's default generator is one for
  // the process, so seeding and construction take turns. Every rank calls it. With one rank a process it just runs.
  // If it throws on one rank, the ranks whose turn has not come throw too.
  void in_turn(const std::function<void()>& work) const;

  struct State;
  explicit Job(std::shared_ptr<State> state);

 private:
  std::shared_ptr<State> state_;
};

// Joins the job that the launcher's environment names; without one, a job of this process alone.
Job join(const JobOptions& options = {});
// True if the environment names a job, which join() would join.
bool launched();

// Runs `body` as ranks 0 … n − 1, each in its own thread with one intra-op thread, and waits for all. When a body throws,
// the Comm and Collectives of all are aborted, so that every waiter throws at once; then the root cause is thrown here.
void run_ranks(int n, const std::function<void(Job&)>& body, const JobOptions& options = {});

}  // namespace tessera
