// Any allocation fails, once or from then on. A save or a load then ends in an error or goes well all the same; nothing is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/thread_comm.h"
#include "tests/crash/scenarios.h"
#include "tests/crash/tiny_state.h"
#include "tests/support/allocation_fault.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;

// What one rank's work under a failing allocation came to.
struct Attempt {
  bool hit = false;
  bool done = false;
  Code code = Code::internal;  // of its error
};

template <class Work>
Attempt attempt(int64_t at, bool for_ever, Work work) {
  Attempt result;
  AllocationFault failing(at, for_ever);
  try {
    work();
    result.done = true;
  } catch (const Error& error) {
    result.code = error.code();
  } catch (const std::bad_alloc&) {
    result.code = Code::no_memory;
  } catch (...) {
    result.code = Code::internal;
  }
  result.hit = failing.hit();
  return result;
}

class AllocationFailure : public ::testing::Test {
 protected:
  Counts counts_;
  int64_t errors_ = 0;
  Start start_ = start_of(scenarios().at(1), 1);  // two steps are there

  // Step 3 was to be saved beside the other two.
  void expect_kept(SimDisk& disk, bool acknowledged, const std::string& when) {
    ++counts_.tried;
    errors_ += !acknowledged;
    Promises promises = start_.promises;
    promises.push_back({.path = step_name(3), .version = 3, .begun = 0});
    if (acknowledged) promises.back().kept = 0;
    const auto broken = broken_promises(disk, promises, disk.changes());
    counts_.broken += !broken.empty();
    EXPECT_THAT(broken, IsEmpty()) << when;
    EXPECT_EQ(disk.open_descriptors(), 0) << when;
  }
};

TEST_F(AllocationFailure, OfASaveLosesNothing) {
  for (const bool for_ever : {false, true}) {
    for (int64_t at = 1;; ++at) {
      SimDisk disk({}, start_.image);
      const auto storage = std::make_shared<LocalStorage>(jobs_root, disk);
      const TinyState state(0, 1, 3);
      const auto comms = thread_comms(1);
      const Attempt result = attempt(at, for_ever, [&] { save(*comms.front(), *storage, "step-00000003", state.state); });
      if (!result.hit) break;
      expect_kept(disk, result.done, "allocation " + std::to_string(at));
      EXPECT_TRUE(result.done || result.code == Code::no_memory) << "allocation " << at << ": " << name(result.code);
      ASSERT_FALSE(HasFailure());
    }
  }
  print(counts_, "allocation failures of saves, " + std::to_string(errors_) + " told");
}

TEST_F(AllocationFailure, OfALoadIsToldOrAllIsWell) {
  for (const bool for_ever : {false, true}) {
    for (int64_t at = 1;; ++at) {
      SimDisk disk({}, start_.image);
      const auto storage = std::make_shared<LocalStorage>(jobs_root, disk);
      TinyState state(0, 1);
      const auto comms = thread_comms(1);
      const Attempt result = attempt(at, for_ever, [&] { load(*comms.front(), *storage, "step-00000002", state.state); });
      if (!result.hit) break;
      ++counts_.tried;
      errors_ += !result.done;
      const bool right = result.done ? state == TinyState(0, 1, 2) : result.code == Code::no_memory;
      counts_.broken += !right;
      EXPECT_TRUE(right) << "allocation " << at << ": " << (result.done ? "other bytes" : name(result.code));
      EXPECT_EQ(disk.open_descriptors(), 0) << "allocation " << at;
      ASSERT_FALSE(HasFailure());
    }
  }
  print(counts_, "allocation failures of loads, " + std::to_string(errors_) + " told");
}

// The rank whose memory ends may be unable even to say so; it leaves, and the others learn that it is gone.
TEST_F(AllocationFailure, OfOneRankOfTwoEndsOnBoth) {
  for (const auto& [failing_rank, plans_for_itself] : {std::pair(0, true), {1, true}, {0, false}, {1, false}}) {
    for (int64_t at = 1;; ++at) {
      SimDisk disk({}, start_.image);
      const auto storage = std::make_shared<LocalStorage>(jobs_root, disk);
      auto comms = thread_comms(2, std::chrono::seconds(60));
      std::vector<Attempt> results(2);
      run_as_ranks(comms, [&](Comm& comm) {
        const auto rank = static_cast<size_t>(comm.rank());
        TinyState state(comm.rank(), 2, 3);
        if (!plans_for_itself) state.without_layouts();
        const int64_t when = comm.rank() == failing_rank ? at : INT64_MAX;
        results[rank] = attempt(when, false, [&] { save(comm, *storage, "step-00000003", state.state); });
        if (!results[rank].done) comms[rank].reset();
      });
      if (!results[static_cast<size_t>(failing_rank)].hit) break;
      const std::string when = "rank " + std::to_string(failing_rank) + ", allocation " + std::to_string(at);
      expect_kept(disk, results[0].done || results[1].done, when);
      for (const Attempt& result : results) {
        if (result.done) continue;
        EXPECT_TRUE(result.code == Code::no_memory || result.code == Code::peer_lost) << when << ": " << name(result.code);
      }
      ASSERT_FALSE(HasFailure());
    }
  }
  print(counts_, "allocation failures of one rank of two");
}

}  // namespace
}  // namespace tessera
