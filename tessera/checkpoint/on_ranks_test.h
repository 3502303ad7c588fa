// tessera/checkpoint/on_ranks_test.h: for tests: a body on so many ranks, which are threads.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tessera/comm/thread_comm.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {

// What each rank threw, in rank order (nothing where it did not).
inline std::vector<Outcome<Done>> on_ranks(int ranks, const std::function<void(Comm&)>& body) {
  auto comms = thread_comms(ranks, std::chrono::seconds(20));
  return run_as_ranks(comms, body);
}

inline void all_well(const std::vector<Outcome<Done>>& outcomes) {
  for (const auto& outcome : outcomes) EXPECT_TRUE(bool(outcome)) << describe(outcome.fault);
}

}  // namespace tessera
