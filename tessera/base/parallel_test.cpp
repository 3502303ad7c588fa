#include "tessera/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace tessera {
namespace {

TEST(InParallel, DoesEverythingOnce) {
  for (const int threads : {1, 2, 7}) {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{3}, size_t{1000}}) {
      std::vector<std::atomic<int>> done(count);
      in_parallel(count, threads, [&](size_t i) { ++done[i]; });
      for (const auto& times : done) EXPECT_EQ(times, 1);
    }
  }
}

TEST(InParallel, ThrowsWhatTheLowestNumberThrew) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    try {
      in_parallel(100, 4, [&](size_t i) {
        if (i % 10 == 7) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "7");
    }
  }
}

TEST(ThreadsFor, LittleWorkIsDoneByOne) {
  EXPECT_EQ(threads_for(0, 10), 1);
  EXPECT_EQ(threads_for(9, 10), 1);
  EXPECT_GE(threads_for(1'000'000, 10), 1);
  EXPECT_LE(threads_for(1'000'000, 10), 16);
}

}  // namespace
}  // namespace tessera
