// The process is gone at any moment: before, after or in the middle of any operation that changes the disk. Whatever was acknowledged is
// there and whole, nothing half there is taken for a checkpoint, and the next run saves on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/crash/scenarios.h"
#include "tests/support/fault_disk.h"
#include "tests/support/persistence.h"
#include "tests/support/seed.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;
using ::testing::Values;

constexpr Trouble::Kind kinds[] = {Trouble::Kind::crash_before, Trouble::Kind::crash_torn, Trouble::Kind::crash_after};

bool changes(const Operation& operation) { return changes_disk(operation.call); }

void expect_kept(FileSystem& files, const Job& job, const SimDisk& disk, Counts& counts, const std::string& when) {
  const auto broken = broken_promises(files, job.promises(), disk.changes());
  counts.broken += !broken.empty();
  EXPECT_THAT(broken, IsEmpty()) << when;
}

// Returns false if the work was over before its `at`-th change.
bool crash_at(const Scenario& scenario, const Start& start, int ranks, Trouble::Kind kind, int64_t at, Counts& counts) {
  SimDisk disk(scenario.disk, start.image);
  FaultDisk faulty(disk);
  faulty.add({{kind}, at, false, changes});
  Job job(faulty, disk, ranks, start.promises);
  const bool done = scenario.work(job);
  if (faulty.hit().empty()) {
    EXPECT_TRUE(done) << scenario.name;
    return false;
  }
  const std::string when = scenario.name + ", " + std::to_string(ranks) + " ranks, crash at change " + std::to_string(at) + ": " +
                           faulty.hit() + " (kind " + std::to_string(static_cast<int>(kind)) + ")";
  ++counts.tried;
  expect_kept(disk, job, disk, counts, when);
  Job next(disk, disk, ranks, job.promises());
  const bool saved = scenario.after(next);
  EXPECT_TRUE(saved || scenario.after_may_refuse) << when << ": the next run cannot save: " << describe(next.faults().front());
  expect_kept(disk, next, disk, counts, when + ", and then the next run");
  EXPECT_EQ(disk.open_descriptors(), 0) << when;
  return true;
}

// How often an undisturbed run changes the disk.
int64_t changes_in(const Scenario& scenario, const Start& start, int ranks) {
  SimDisk disk(scenario.disk, start.image);
  FaultDisk counting(disk);
  Job job(counting, disk, ranks, start.promises);
  EXPECT_TRUE(scenario.work(job)) << scenario.name;
  return std::ranges::count_if(counting.operations(), changes);
}

class CrashPoint : public ::testing::TestWithParam<int> {};

TEST_P(CrashPoint, LeavesTheOldOrTheNewWhole) {
  const int ranks = GetParam();
  Counts counts;
  for (const Scenario& scenario : scenarios()) {
    const Start start = start_of(scenario, ranks);
    for (const auto kind : kinds) {
      for (int64_t at = 1; crash_at(scenario, start, ranks, kind, at, counts); ++at) {
        if (HasFailure()) break;
      }
    }
  }
  print(counts, "crash points, " + std::to_string(ranks) + " ranks");
  EXPECT_GT(counts.tried, 900);
}

// The run after a crash crashes as well, at any moment of what it does with what it finds; then a third one comes.
TEST_P(CrashPoint, OfARecoveryLeavesTheOldOrTheNewWhole) {
  const int ranks = GetParam();
  Random random(seed_of_this_run());
  Counts counts;
  const int64_t each = scaled(1200) / GetParam() / static_cast<int64_t>(scenarios().size()) + 1;
  for (const Scenario& scenario : scenarios()) {
    const Start start = start_of(scenario, ranks);
    const int64_t changes_of_work = changes_in(scenario, start, ranks);
    for (int64_t i = 0; i < each && !HasFailure(); ++i) {
      SimDisk disk(scenario.disk, start.image);
      Promises promises = start.promises;
      std::string when = scenario.name + ", " + std::to_string(ranks) + " ranks";
      for (const auto* work : {&scenario.work, &scenario.after}) {
        FaultDisk faulty(disk);
        const int64_t at = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(changes_of_work));
        faulty.add({{kinds[random() % 3]}, at, false, changes});
        Job job(faulty, disk, ranks, promises);
        (*work)(job);
        promises = job.promises();
        when += ", crash at change " + std::to_string(at) + ": " + faulty.hit();
        expect_kept(disk, job, disk, counts, when);
      }
      ++counts.tried;
      Job third(disk, disk, ranks, promises);
      EXPECT_TRUE(scenario.after(third) || scenario.after_may_refuse) << when << ": the third run cannot save";
      expect_kept(disk, third, disk, counts, when + ", and then the third run");
    }
  }
  print(counts, "crashes of a run and of the next, " + std::to_string(ranks) + " ranks");
}

INSTANTIATE_TEST_SUITE_P(Ranks, CrashPoint, Values(1, 2, 4));

}  // namespace
}  // namespace tessera
