// 256 ranks that look for the latest step, load and save, while ranks are killed, paused, cut off and their storage fails: story after
// story, each from its seed. TESSERA_SEED=n acts out that story alone and prints it; TESSERA_SCALE=k tries k times as many.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/simulation/story.h"
#include "tests/support/seed.h"

namespace tessera {
namespace {

constexpr int ranks = 256;

TEST(Simulation, WhateverBefallsTheRanksNothingIsLostAndNobodyHangs) {
  const char* const one = std::getenv("TESSERA_SEED");
  const uint64_t first = one ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t count = one ? 1 : static_cast<uint64_t>(scaled(500));
  StoryEnd sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const StoryEnd end = act_out(plan_story(seed, ranks), one != nullptr);
    for (const std::string& violation : end.violations) ADD_FAILURE() << "TESSERA_SEED=" << seed << ": " << violation;
    sum.violations.insert(sum.violations.end(), end.violations.begin(), end.violations.end());
    sum.kills += end.kills;
    sum.pauses += end.pauses;
    sum.drops += end.drops;
    sum.storage_faults += end.storage_faults;
    sum.saved += end.saved;
    sum.failed += end.failed;
  }
  std::printf(
      "simulation: %llu seeds, %d ranks, %d kills, %d pauses, %d drops, %d storage faults; %d saves went well, %d failed; %zu violations\n",
      static_cast<unsigned long long>(count), ranks, sum.kills, sum.pauses, sum.drops, sum.storage_faults, sum.saved, sum.failed,
      sum.violations.size());
}

TEST(Simulation, ASeedTellsItsStoryTheSameWayEachTime) {
  for (uint64_t seed = 1; seed <= 10; ++seed) EXPECT_EQ(act_out(plan_story(seed, ranks)).hash, act_out(plan_story(seed, ranks)).hash);
  EXPECT_NE(act_out(plan_story(1, ranks)).hash, act_out(plan_story(2, ranks)).hash);
}

}  // namespace
}  // namespace tessera
