// Any operation on the disk fails, once or from then on, with any errno. A save that says it went well did; one that did not says where
// and why, on every rank, and what was there before still is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/crash/scenarios.h"
#include "tests/support/fault_disk.h"
#include "tests/support/persistence.h"
#include "tests/support/seed.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;
using ::testing::Values;

constexpr int errnos[] = {EIO, ENOSPC, EDQUOT, EACCES, EROFS, EINTR, EMFILE, ENOMEM, ESTALE, ETIMEDOUT};

// A disk that interrupts every read for ever is none that a program can do anything about but wait.
bool may_fail(const Operation& operation, int os_errno, bool for_ever) {
  return !(for_ever && os_errno == EINTR && (operation.call == Call::pread || operation.call == Call::pwrite));
}

struct Failure {
  int64_t at = 1;
  int os_errno = EIO;
  bool for_ever = false;

  Rule rule() const {
    return {{Trouble::Kind::fail, os_errno}, at, for_ever, [*this](const Operation& operation) {
              return may_fail(operation, os_errno, for_ever);
            }};
  }
  std::string text() const {
    return std::string(strerrorname_np(os_errno)) + (for_ever ? " from operation " : " at operation ") + std::to_string(at);
  }
};

// What an error owes to whoever reads it.
std::vector<std::string> shortcomings(const std::vector<Fault>& faults, const Failure& failure, bool has_phases) {
  std::vector<std::string> found;
  for (const Fault& fault : faults) {
    if (has_phases && fault.phase == Phase::none) found.push_back("no phase: " + describe(fault));
    if (fault.file.empty()) found.push_back("no file: " + describe(fault));
    // Where nothing can be made beside the target, it is staged inside, and a full target is then refused for that.
    const bool closed = fault.code == Code::exists && fault.what.find("parent is closed") != std::string::npos;
    if (!closed && fault.os_errno != failure.os_errno) found.push_back("another errno: " + describe(fault));
    if (fault.code == Code::internal) found.push_back("internal: " + describe(fault));
    if (describe(fault) != describe(faults.front())) found.push_back("ranks say different things: " + describe(fault));
  }
  return found;
}

// All that was acknowledged is there, also if the power goes now: when nothing survives that need not, when all names do, or any.
std::vector<std::string> broken_now_or_without_power(const SimDiskOptions& options, SimDisk& disk, const Promises& promises, Random& random,
                                                     int tries) {
  auto broken = broken_promises(disk, promises, disk.changes());
  const Recording recording = disk.recording();
  std::vector<Survives> survivors(static_cast<size_t>(tries), Survives::anything);
  survivors.insert(survivors.end(), {Survives::nothing, Survives::names});
  for (const Survives survives : survivors) {
    SimDisk after(options, crash_state(recording, recording.changes.size(), survives, random));
    for (std::string& line : broken_promises(after, promises, recording.changes.size())) {
      broken.push_back("without power: " + std::move(line));
    }
  }
  return broken;
}

class IoFailure : public ::testing::TestWithParam<int> {
 protected:
  Counts counts_;
  int64_t errors_ = 0;

  // Returns false if the work was over before the failure.
  bool save_fails(const Scenario& scenario, const Start& start, const Failure& failure, Random& random) {
    SimDisk disk(scenario.disk, start.image);
    FaultDisk faulty(disk);
    faulty.add(failure.rule());
    Job job(faulty, disk, GetParam(), start.promises);
    const bool done = scenario.work(job);
    if (faulty.hit().empty()) {
      EXPECT_TRUE(done) << scenario.name;
      return false;
    }
    const std::string when = scenario.name + ", " + failure.text() + ": " + faulty.hit();
    ++counts_.tried;
    errors_ += !done;
    if (!done) {
      EXPECT_THAT(shortcomings(job.faults(), failure, scenario.has_phases), IsEmpty()) << when;
    }
    const auto broken = broken_now_or_without_power(scenario.disk, disk, job.promises(), random, 1);
    counts_.broken += !broken.empty();
    EXPECT_THAT(broken, IsEmpty()) << when;
    EXPECT_EQ(disk.open_descriptors(), 0) << when;
    Job next(disk, disk, GetParam(), job.promises());
    EXPECT_TRUE(scenario.after(next) || scenario.after_may_refuse) << when << ": the next run: " << describe(next.faults().front());
    return true;
  }

  bool load_fails(const Start& start, const Failure& failure) {
    SimDisk disk({}, start.image);
    FaultDisk faulty(disk);
    faulty.add(failure.rule());
    Job job(faulty, disk, GetParam(), start.promises);
    const bool done = job.load("step-00000002", 2);
    if (faulty.hit().empty()) return false;
    const std::string when = "load, " + failure.text() + ": " + faulty.hit();
    ++counts_.tried;
    errors_ += !done;
    if (!done) {
      EXPECT_THAT(shortcomings(job.faults(), failure, true), IsEmpty()) << when;
    }
    EXPECT_EQ(disk.open_descriptors(), 0) << when;
    Job next(disk, disk, GetParam(), start.promises);
    EXPECT_TRUE(next.load("step-00000002", 2)) << when;
    return true;
  }

  // Every operation, once and for ever, with EIO; with the other errnos, and under sanitizers, a sample.
  template <class Try>
  void at_every_operation(Random& random, double share, Try attempt) {
    for (const bool for_ever : {false, true}) {
      for (const int os_errno : errnos) {
        bool more = true;
        for (int64_t at = 1; more; ++at) {
          const bool taken = (os_errno == EIO && ordinary_scale == 1) || std::uniform_real_distribution<>()(random) < share;
          more = taken ? attempt(Failure{at, os_errno, for_ever}) : at < 2000;
        }
      }
    }
  }
};

TEST_P(IoFailure, OfASaveLosesNothingAndIsNeverTakenForSuccess) {
  Random random(seed_of_this_run());
  const double share = std::min(1.0, 0.1 * static_cast<double>(scaled(1000)) / 1000 / GetParam());
  for (const Scenario& scenario : scenarios()) {
    const Start start = start_of(scenario, GetParam());
    at_every_operation(random, share, [&](const Failure& failure) { return save_fails(scenario, start, failure, random); });
  }
  print(counts_, "I/O failures of saves, " + std::to_string(GetParam()) + " ranks, " + std::to_string(errors_) + " told");
}

TEST_P(IoFailure, OfALoadIsToldAndHarmsNothing) {
  Random random(seed_of_this_run());
  const Start start = start_of(scenarios().at(1), GetParam());
  const double share = std::min(1.0, static_cast<double>(scaled(1000)) / 1000);
  at_every_operation(random, share, [&](const Failure& failure) { return load_fails(start, failure); });
  print(counts_, "I/O failures of loads, " + std::to_string(GetParam()) + " ranks, " + std::to_string(errors_) + " told");
}

// One failure hides another: a disk on which each operation may fail.
TEST_P(IoFailure, ManyAtOnceLoseNothing) {
  Random random(seed_of_this_run());
  for (int64_t i = scaled(600) / GetParam(); i > 0 && !HasFailure(); --i) {
    const Scenario& scenario = scenarios()[random() % scenarios().size()];
    const Start start = start_of(scenario, GetParam());
    SimDisk disk(scenario.disk, start.image);
    FaultDisk faulty(disk);
    // From some moment on: most of what is worth failing comes late.
    const auto by_chance = [chance = Random(random()), one_in = 2 + random() % 40, left = random() % 60](const Operation&) mutable {
      return left > 0 ? --left, false : chance() % one_in == 0;
    };
    const std::string when = scenario.name + ", " + std::to_string(i) + " to go";
    faulty.add({{Trouble::Kind::fail, errnos[random() % std::size(errnos)]}, 1, true, by_chance});
    Job job(faulty, disk, GetParam(), start.promises);
    scenario.work(job);
    ++counts_.tried;
    const auto broken = broken_now_or_without_power(scenario.disk, disk, job.promises(), random, 1);
    counts_.broken += !broken.empty();
    std::string story;
    if (!broken.empty()) {
      for (const Operation& operation : faulty.operations()) story += "\n  " + describe(operation);
    }
    EXPECT_THAT(broken, IsEmpty()) << when << story;
    EXPECT_EQ(disk.open_descriptors(), 0) << when;
  }
  print(counts_, "disks that fail at random, " + std::to_string(GetParam()) + " ranks");
}

// Two changes of the disk fail, every pair of them: the second among what is done about the first. Under sanitizers, about a seventh of
// them.
TEST(IoFailures, EveryPairLosesNothing) {
  Random random(seed_of_this_run());
  const int64_t stride = scaled(1000) < 1000 ? 3 : 1;
  const auto next_after = [&](int64_t change) { return change + 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(stride)); };
  Counts counts;
  for (const Scenario& scenario : scenarios()) {
    const Start start = start_of(scenario, 1);
    bool more = true;
    for (int64_t first = next_after(0); more && !HasFailure(); first += stride) {
      bool hit_second = true;
      for (int64_t second = next_after(first); hit_second && !HasFailure(); second += stride) {
        SimDisk disk(scenario.disk, start.image);
        FaultDisk faulty(disk);
        for (const int64_t at : {first, second}) {
          faulty.add({{Trouble::Kind::fail, EIO}, at, false, [](const Operation& operation) { return changes_disk(operation.call); }});
        }
        Job job(faulty, disk, 1, start.promises);
        scenario.work(job);
        more = !faulty.hit().empty();
        hit_second = std::ranges::count_if(faulty.operations(), &Operation::hit) == 2;
        ++counts.tried;
        const auto broken = broken_now_or_without_power(scenario.disk, disk, job.promises(), random, 8);
        counts.broken += !broken.empty();
        EXPECT_THAT(broken, IsEmpty()) << scenario.name << ", changes " << first << " and " << second << " fail";
      }
    }
  }
  print(counts, "pairs of I/O failures, 1 rank");
}

TEST_P(IoFailure, ADiskThatIsShortOrSlowIsNone) {
  for (const Scenario& scenario : scenarios()) {
    for (const auto kind : {Trouble::Kind::shorten, Trouble::Kind::wait}) {
      const Start start = start_of(scenario, GetParam());
      SimDisk disk(scenario.disk, start.image);
      FaultDisk faulty(disk);
      faulty.add({{kind}, 1, true});
      Job job(faulty, disk, GetParam(), start.promises);
      EXPECT_TRUE(scenario.work(job)) << scenario.name;
      EXPECT_THAT(broken_promises(faulty, job.promises(), disk.changes()), IsEmpty()) << scenario.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, IoFailure, Values(1, 2, 4));

}  // namespace
}  // namespace tessera
