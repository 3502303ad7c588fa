#include "tests/support/fiber.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

TEST(Fiber, RunsUntilItYieldsAndGoesOnWhereItStood) {
  std::string order;
  Fiber* self = nullptr;
  Fiber fiber([&] {
    for (const char c : {'b', 'd', 'f'}) {
      order += c;
      self->yield();
    }
  });
  self = &fiber;
  for (const char c : {'a', 'c', 'e'}) {
    order += c;
    fiber.resume();
  }
  EXPECT_EQ(order, "abcdef");
  EXPECT_FALSE(fiber.ended());
  fiber.resume();
  EXPECT_TRUE(fiber.ended());
}

TEST(Fiber, ManyMayYieldWhileTheyCatchAndEachRethrowsItsOwn) {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<std::string> caught(20);
  for (size_t i = 0; i < caught.size(); ++i) {
    fibers.push_back(std::make_unique<Fiber>([&, i] {
      Fiber& self = *fibers[i];
      try {
        try {
          self.yield();
          throw Error({.what = "fault " + std::to_string(i)});
        } catch (...) {
          self.yield();
          capture([&] { throw Error({.what = "another, while the first is being caught"}); });
          self.yield();
          throw;
        }
      } catch (const Error& error) {
        self.yield();
        caught[i] = error.fault().what;
      }
    }));
  }
  for (bool left = true; left;) {
    left = false;
    for (auto fiber = fibers.rbegin(); fiber != fibers.rend(); ++fiber) {
      if ((*fiber)->ended()) continue;
      (*fiber)->resume();
      left = true;
    }
  }
  for (size_t i = 0; i < caught.size(); ++i) EXPECT_EQ(caught[i], "fault " + std::to_string(i));
}

}  // namespace
}  // namespace tessera
