// The power goes at any moment, and what was never synced is lost, torn, reordered or there (tests/support/persistence.h). Whatever was
// acknowledged is there and whole, and nothing half there is taken for a checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/crash/scenarios.h"
#include "tests/support/fault_disk.h"
#include "tests/support/persistence.h"
#include "tests/support/seed.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;

constexpr int64_t ordinary_states = 52'000;

// What a disk was told, and what it promised to whom.
struct History {
  std::string name;
  SimDiskOptions disk;
  Recording recording;
  Promises promises;
};

History run_well(const Scenario& scenario, int ranks) {
  const Start start = start_of(scenario, ranks);
  SimDisk disk(scenario.disk, start.image);
  Job job(disk, disk, ranks, start.promises);
  EXPECT_TRUE(scenario.work(job));
  return {scenario.name + ", " + std::to_string(ranks) + " ranks", scenario.disk, disk.recording(), job.promises()};
}

// The process dies at some moment, nothing of it being synced by that, and the next run saves on; then the power goes.
History run_killed(const Scenario& scenario, int ranks, int64_t at) {
  const Start start = start_of(scenario, ranks);
  SimDisk disk(scenario.disk, start.image);
  FaultDisk faulty(disk);
  faulty.add({{Trouble::Kind::crash_torn}, at, false, [](const Operation& operation) { return changes_disk(operation.call); }});
  Job job(faulty, disk, ranks, start.promises);
  scenario.work(job);
  Job next(disk, disk, ranks, job.promises());
  scenario.after(next);
  return {scenario.name + ", " + std::to_string(ranks) + " ranks, killed at change " + std::to_string(at) + " and run again", scenario.disk,
          disk.recording(), next.promises()};
}

void expect_kept(const History& run, size_t moment, Survives survives, Random& random, Counts& counts) {
  ++counts.tried;
  const DiskImage image = crash_state(run.recording, moment, survives, random);
  SimDisk disk(run.disk, image);
  const auto broken = broken_promises(disk, run.promises, moment);
  if (broken.empty()) return;
  ++counts.broken;
  std::string story;
  for (size_t i = 0; i < moment; ++i) story += "\n  " + describe(run.recording.changes[i]);
  std::string there;
  for (const auto& [path, content] : tree_of(image)) there += "\n  " + path + " (" + std::to_string(content.size()) + " bytes)";
  EXPECT_THAT(broken, IsEmpty()) << run.name << ", power lost after " << moment << " changes, survivors of kind "
                                 << static_cast<int>(survives) << story << "\nleaves" << there;
}

std::vector<History> all_runs(Random& random) {
  std::vector<History> runs;
  for (const Scenario& scenario : scenarios()) {
    for (const int ranks : {1, 2, 4}) {
      runs.push_back(run_well(scenario, ranks));
      const auto changes = static_cast<int64_t>(runs.back().recording.changes.size());
      for (int i = 0; i < 2; ++i) runs.push_back(run_killed(scenario, ranks, 1 + static_cast<int64_t>(random() % changes)));
    }
  }
  return runs;
}

TEST(PowerLoss, LosesNothingThatWasAcknowledgedAndShowsNothingHalf) {
  Random random(seed_of_this_run());
  const std::vector<History> runs = all_runs(random);
  size_t moments = 0;
  for (const History& run : runs) moments += run.recording.changes.size() + 1;
  const int64_t each = std::max<int64_t>(1, scaled(ordinary_states) / static_cast<int64_t>(moments) + 1 - 4);
  Counts counts;
  for (const History& run : runs) {
    for (size_t moment = 0; moment <= run.recording.changes.size() && !HasFailure(); ++moment) {
      for (const Survives survives : extremes) expect_kept(run, moment, survives, random, counts);
      for (int64_t i = 0; i < each; ++i) expect_kept(run, moment, Survives::anything, random, counts);
    }
  }
  print(counts, "power-loss states at " + std::to_string(moments) + " moments of " + std::to_string(runs.size()) + " runs");
}

}  // namespace
}  // namespace tessera
