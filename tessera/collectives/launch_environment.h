// tessera/collectives/launch_environment.h: what a launcher tells a rank about its job, in the environment.
// Launchers   The first of these that is there says rank, size and local rank:
//             torchrun  RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RESTART_COUNT, and
//                       TORCHELASTIC_USE_AGENT_STORE where it serves the store itself
//             Open MPI  OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_RANK
//             srun      SLURM_PROCID, SLURM_STEP_NUM_TASKS or else SLURM_NTASKS, SLURM_LOCALID; only in a step (SLURM_STEP_ID): a batch
//                       script sees the numbers of its job too, and is no rank
//             PMI       PMI_RANK, PMI_SIZE, MPI_LOCALRANKID (MPICH, Intel MPI)
// Address     MASTER_ADDR is the host of rank 0. torchrun says it; else, where it is not set: the first host of SLURM_STEP_NODELIST or
//             SLURM_JOB_NODELIST, then SLURM_LAUNCH_NODE_IPADDR, for srun; 127.0.0.1 where the launcher says that all ranks are on one host
//             (OMPI_COMM_WORLD_LOCAL_SIZE or MPI_LOCALNRANKS equals the size). mpirun over several hosts needs `-x MASTER_ADDR=HOST`.
// Port        MASTER_PORT; else, for all but torchrun, one from 20000 to 29999 that follows from the job's name (SLURM_JOB_ID and
//             SLURM_STEP_ID, or PMIX_NAMESPACE), else 29500. Where another process has that port, set MASTER_PORT.
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

// Nothing where no launcher started this process.
// Errors  Error(invalid_argument) that names the variable that is missing or makes no sense.
std::optional<LaunchEnvironment> launch_environment(const Variables& variables);

// True if a launcher started this process, whether or not what it says makes sense.
bool names_a_job(const Variables& variables);

// A variable as a number from `least` to `most`, or `otherwise` where it is not set.
int number_from(const Variables& variables, const char* name, int least, int most, int otherwise);

}  // namespace tessera
