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

}  // namespace
}  // namespace tessera
