#include "tessera/base/guarded.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace tessera {
namespace {

constexpr auto ages = std::chrono::minutes(5);

TEST(Guarded, ManyThreadsCountRight) {
  Guarded<int> count(0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) count.with([](int& n) { ++n; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count.with([](int& n) { return n; }), 4000);
}

TEST(Guarded, AWaiterSeesWhatItWaitedFor) {
  Guarded<int> turn(0);
  std::thread other([&] {
    for (int i = 1; i < 100; i += 2) {
      EXPECT_TRUE(turn.when(Deadline::after(ages), [&](int& n) { return n == i; }, [](int& n) { ++n; }));
    }
  });
  for (int i = 0; i < 100; i += 2) {
    EXPECT_TRUE(turn.when(Deadline::after(ages), [&](int& n) { return n == i; }, [](int& n) { ++n; }));
  }
  other.join();
  EXPECT_EQ(turn.with([](int& n) { return n; }), 100);
}

TEST(Guarded, AtTheDeadlineNothingIsDone) {
  Guarded<int> value(0);
  EXPECT_FALSE(value.when(Deadline::after(Milliseconds(1)), [](int&) { return false; }, [](int& n) { n = 1; }));
  EXPECT_EQ(value.with([](int& n) { return n; }), 0);
  EXPECT_TRUE(value.when(
      Deadline::after(Milliseconds(0)), [](int&) { return true; }, [](int& n) { n = 1; }))
      << "what is ready needs no time";
}

TEST(Guarded, AChangeThatEndsInAnExceptionWakesTheWaiterToo) {
  Guarded<int> value(0);
  std::thread other([&] { EXPECT_TRUE(value.when(Deadline::after(ages), [](int& n) { return n == 1; }, [](int&) {})); });
  EXPECT_THROW(value.with([](int& n) {
    n = 1;
    throw std::runtime_error("no");
  }),
               std::runtime_error);
  other.join();
}

// Under TSan and ASan: the one who wakes must not touch the object after the waiter may have destroyed it.
TEST(Guarded, AWaiterMayDestroyItAsSoonAsItHasSeenTheChange) {
  for (int i = 0; i < 200; ++i) {
    auto done = std::make_unique<Guarded<bool>>(false);
    std::thread other([&done = *done] { done.with([](bool& d) { d = true; }); });
    ASSERT_TRUE(done->when(Deadline::after(ages), [](bool& d) { return d; }, [](bool&) {}));
    done.reset();
    other.join();
  }
}

}  // namespace
}  // namespace tessera
