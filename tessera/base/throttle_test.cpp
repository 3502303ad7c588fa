#include "tessera/base/throttle.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Throttle, LetsThroughNoMoreThanItsRateWhoeverAsks) {
  Throttle throttle(1'000'000);
  const auto begin = Clock::now();
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) throttle.pass(2'000);
    });
  }
  for (auto& thread : threads) thread.join();
  // Sixty thousand bytes, of which the last piece was let through at once when its turn came. A machine may be slower, never faster.
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(58));
}

TEST(Throttle, SavesNothingUp) {
  Throttle throttle(1'000'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const auto begin = Clock::now();
  for (int i = 0; i < 11; ++i) throttle.pass(2'000);
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(20));
}

TEST(Throttle, ItsEndEndsEveryWait) {
  Throttle throttle(1);
  throttle.pass(1'000'000'000);
  std::thread waits([&] { throttle.pass(1); });  // for thirty years
  throttle.end();
  waits.join();
  throttle.pass(1);
}

TEST(Throttle, WithoutARateDoesNotWait) {
  Throttle throttle(0);
  throttle.pass(int64_t{1} << 62);
}

}  // namespace
}  // namespace tessera
