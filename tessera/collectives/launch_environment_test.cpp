#include "tessera/collectives/launch_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tessera/base/error.h"

namespace tessera {
namespace {

using Settings = std::map<std::string, std::string>;

// What torchrun sets for rank 5 of 8, the second one on its host, after one restart.
const Settings torchrun{{"RANK", "5"},
                        {"WORLD_SIZE", "8"},
                        {"LOCAL_RANK", "1"},
                        {"MASTER_ADDR", "node0"},
                        {"MASTER_PORT", "29500"},
                        {"TORCHELASTIC_RESTART_COUNT", "1"},
                        {"TORCHELASTIC_USE_AGENT_STORE", "True"}};

std::optional<LaunchEnvironment> environment_of(const Settings& settings) {
  return launch_environment([&](const char* name) -> const char* {
    const auto found = settings.find(name);
    return found == settings.end() ? nullptr : found->second.c_str();
  });
}

Settings torchrun_without(const std::string& name) {
  Settings settings = torchrun;
  settings.erase(name);
  return settings;
}

Settings torchrun_with(const std::string& name, const std::string& value) {
  Settings settings = torchrun;
  settings[name] = value;
  return settings;
}

Fault fault_with(const Settings& settings) {
  return capture([&] { return environment_of(settings); }).fault;
}

TEST(LaunchEnvironment, IsWhatTorchrunSets) {
  const auto environment = environment_of(torchrun);
  ASSERT_TRUE(environment);
  EXPECT_EQ(environment->rank, 5);
  EXPECT_EQ(environment->size, 8);
  EXPECT_EQ(environment->local_rank, 1);
  EXPECT_EQ(environment->master_address, "node0");
  EXPECT_EQ(environment->master_port, 29500);
  EXPECT_EQ(environment->restart_count, 1);
  EXPECT_TRUE(environment->agent_store);
}

TEST(LaunchEnvironment, IsNothingWithoutALauncher) {
  EXPECT_FALSE(environment_of({}));
  EXPECT_FALSE(environment_of(torchrun_without("WORLD_SIZE")));  // a RANK may stand for something else
}

TEST(LaunchEnvironment, TheRanksServeTheStoreUnlessTheLauncherSaysThatItDoes) {
  EXPECT_FALSE(environment_of(torchrun_without("TORCHELASTIC_USE_AGENT_STORE"))->agent_store);
  EXPECT_FALSE(environment_of(torchrun_with("TORCHELASTIC_USE_AGENT_STORE", "False"))->agent_store);
}

TEST(LaunchEnvironment, WithoutALocalRankTheRankStandsForIt) {
  EXPECT_EQ(environment_of(torchrun_without("LOCAL_RANK"))->local_rank, 5);
  EXPECT_EQ(environment_of(torchrun_without("TORCHELASTIC_RESTART_COUNT"))->restart_count, 0);
}

TEST(LaunchEnvironment, NamesTheVariableThatIsMissing) {
  for (const std::string name : {"RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    const Fault fault = fault_with(torchrun_without(name));
    EXPECT_EQ(fault.code, Code::invalid_argument) << name;
    EXPECT_EQ(fault.what, name + " is not set, though WORLD_SIZE is");
  }
}

TEST(LaunchEnvironment, NamesTheVariableThatMakesNoSense) {
  const Settings garbled[] = {{{"WORLD_SIZE", ""}},
                              {{"WORLD_SIZE", "0"}},
                              {{"WORLD_SIZE", "-1"}},
                              {{"WORLD_SIZE", "two"}},
                              {{"WORLD_SIZE", "2000000"}},
                              {{"WORLD_SIZE", "99999999999999999999"}},
                              {{"RANK", ""}},
                              {{"RANK", "-1"}},
                              {{"RANK", "8"}},
                              {{"RANK", "3.5"}},
                              {{"RANK", " 3"}},
                              {{"RANK", "3 "}},
                              {{"LOCAL_RANK", "x"}},
                              {{"LOCAL_RANK", "-1"}},
                              {{"TORCHELASTIC_RESTART_COUNT", "-1"}},
                              {{"MASTER_PORT", "0"}},
                              {{"MASTER_PORT", "65536"}},
                              {{"MASTER_PORT", "http"}},
                              {{"MASTER_PORT", "0x50"}},
                              {{"MASTER_PORT", "+80"}}};
  for (const Settings& one : garbled) {
    const auto& [name, value] = *one.begin();
    const Fault fault = fault_with(torchrun_with(name, value));
    EXPECT_EQ(fault.code, Code::invalid_argument) << name << '=' << value;
    EXPECT_THAT(fault.what, testing::StartsWith(name + " is '" + value + "'"));
  }
  EXPECT_THAT(fault_with(torchrun_with("MASTER_ADDR", "")).what, testing::StartsWith("MASTER_ADDR"));
}

// What `mpirun -n 4` of Open MPI sets for rank 2, all ranks being on one host.
const Settings mpirun{{"OMPI_COMM_WORLD_SIZE", "4"},       {"OMPI_COMM_WORLD_RANK", "2"},    {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}, {"PMIX_NAMESPACE", "3245277185"}, {"PMIX_RANK", "2"}};
// What `srun -N 3 -n 6` sets for rank 3.
const Settings srun{{"SLURM_JOB_ID", "4711"},
                    {"SLURM_STEP_ID", "2"},
                    {"SLURM_STEP_NUM_TASKS", "6"},
                    {"SLURM_NTASKS", "8"},
                    {"SLURM_PROCID", "3"},
                    {"SLURM_LOCALID", "1"},
                    {"SLURM_STEP_NODELIST", "node[003-005,007],gpu1"},
                    {"SLURM_JOB_NODELIST", "node[001-009]"},
                    {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"}};
// What Hydra's mpiexec sets for rank 1 of 2 on one host.
const Settings mpiexec{{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}};

Settings with(Settings settings, const Settings& more) {
  for (const auto& [name, value] : more) settings[name] = value;
  return settings;
}
Settings without(Settings settings, const std::string& name) {
  settings.erase(name);
  return settings;
}

TEST(LaunchEnvironment, IsWhatMpirunSets) {
  const auto environment = environment_of(mpirun);
  ASSERT_TRUE(environment);
  EXPECT_EQ(environment->rank, 2);
  EXPECT_EQ(environment->size, 4);
  EXPECT_EQ(environment->local_rank, 2);
  EXPECT_EQ(environment->master_address, "127.0.0.1");
  EXPECT_FALSE(environment->agent_store);
}

TEST(LaunchEnvironment, IsWhatSrunSets) {
  const auto environment = environment_of(srun);
  ASSERT_TRUE(environment);
  EXPECT_EQ(environment->rank, 3);
  EXPECT_EQ(environment->size, 6);  // of the step, not of the job
  EXPECT_EQ(environment->local_rank, 1);
  EXPECT_EQ(environment->master_address, "node003");
  EXPECT_EQ(environment_of(without(srun, "SLURM_STEP_NUM_TASKS"))->size, 8);
  EXPECT_EQ(environment_of(with(srun, {{"SLURM_RESTART_COUNT", "2"}}))->restart_count, 2);
}

TEST(LaunchEnvironment, IsWhatMpiexecSets) {
  const auto environment = environment_of(mpiexec);
  ASSERT_TRUE(environment);
  EXPECT_EQ(environment->rank, 1);
  EXPECT_EQ(environment->size, 2);
  EXPECT_EQ(environment->local_rank, 1);
  EXPECT_EQ(environment->master_address, "127.0.0.1");
  EXPECT_EQ(environment->master_port, 29500);
}

TEST(LaunchEnvironment, IsThatOfTheInnermostLauncher) {
  EXPECT_EQ(environment_of(with(srun, torchrun))->size, 8);
  EXPECT_EQ(environment_of(with(srun, mpirun))->size, 4);
  EXPECT_EQ(environment_of(with(mpiexec, srun))->size, 6);
}

TEST(LaunchEnvironment, ABatchScriptOfSlurmIsNoRank) {
  EXPECT_FALSE(environment_of(without(srun, "SLURM_STEP_ID")));
  EXPECT_FALSE(names_a_job([](const char* name) -> const char* { return std::string(name) == "SLURM_NTASKS" ? "8" : nullptr; }));
}

TEST(LaunchEnvironment, FindsTheFirstHostOfASlurmList) {
  const std::pair<std::string, std::string> lists[] = {{"gpu", "gpu"},         {"a,b", "a"},        {"n[1-3]", "n1"},
                                                       {"n[07,09]", "n07"},    {"n[4],m", "n4"},    {"r[1-2]n[3-4]", "r1n3"},
                                                       {"n[1-3]-ib", "n1-ib"}, {"n[1-3", "node001"}};  // a broken one is passed over
  for (const auto& [list, host] : lists) {
    EXPECT_EQ(environment_of(with(srun, {{"SLURM_STEP_NODELIST", list}}))->master_address, host) << list;
  }
  const Settings no_lists = without(without(srun, "SLURM_STEP_NODELIST"), "SLURM_JOB_NODELIST");
  EXPECT_EQ(environment_of(no_lists)->master_address, "10.0.0.1");
}

TEST(LaunchEnvironment, AnAddressAndAPortThatAreSetCount) {
  const Settings set{{"MASTER_ADDR", "head"}, {"MASTER_PORT", "1234"}};
  for (const Settings& launcher : {mpirun, srun, mpiexec}) {
    EXPECT_EQ(environment_of(with(launcher, set))->master_address, "head");
    EXPECT_EQ(environment_of(with(launcher, set))->master_port, 1234);
  }
}

TEST(LaunchEnvironment, ThePortFollowsFromTheJobAlone) {
  const int port = environment_of(srun)->master_port;
  EXPECT_GE(port, 20000);
  EXPECT_LT(port, 30000);
  EXPECT_EQ(environment_of(with(srun, {{"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}))->master_port, port);
  EXPECT_NE(environment_of(with(srun, {{"SLURM_STEP_ID", "3"}}))->master_port, port);
  EXPECT_NE(environment_of(mpirun)->master_port, 29500);
}

TEST(LaunchEnvironment, SeveralHostsWithoutAnAddressAreToldToSetIt) {
  for (const Settings& launcher : {with(mpirun, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), without(mpiexec, "MPI_LOCALNRANKS")}) {
    const Fault fault = fault_with(launcher);
    EXPECT_EQ(fault.code, Code::invalid_argument);
    EXPECT_THAT(fault.what, testing::StartsWith("MASTER_ADDR is not set"));
    EXPECT_THAT(fault.hint, testing::HasSubstr("mpirun -x MASTER_ADDR"));
  }
}

TEST(LaunchEnvironment, NamesWhatAnyLauncherLeavesOut) {
  EXPECT_EQ(fault_with(without(mpirun, "OMPI_COMM_WORLD_RANK")).what, "OMPI_COMM_WORLD_RANK is not set, though OMPI_COMM_WORLD_SIZE is");
  EXPECT_EQ(fault_with(without(srun, "SLURM_PROCID")).what, "SLURM_PROCID is not set, though SLURM_STEP_NUM_TASKS is");
  EXPECT_EQ(fault_with(without(mpiexec, "PMI_RANK")).what, "PMI_RANK is not set, though PMI_SIZE is");
}

}  // namespace
}  // namespace tessera
