#include "tessera/transfer/slab_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>

namespace tessera {
namespace {

TEST(SlabRing, LendsItsSlabsAgainAndNeverMoreThanItHas) {
  SlabRing ring(3, 4096);
  std::set<std::byte*> seen;
  for (int round = 0; round < 10; ++round) {
    std::vector<Slab> out;
    for (int k = 0; k < 3; ++k) {
      out.push_back(ring.acquire());
      EXPECT_EQ(reinterpret_cast<uintptr_t>(out.back().data()) % 4096, 0U);
      std::memset(out.back().data(), round, 4096);
      seen.insert(out.back().data());
    }
  }
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_EQ(ring.peak_bytes(), 3 * 4096);
  EXPECT_EQ(ring.waits(), 0);
}

TEST(SlabRing, WhoFindsNoneWaitsUntilOneComesBack) {
  SlabRing ring(1, 4096);
  std::thread other;
  {
    const Slab mine = ring.acquire();
    other = std::thread([&] { ring.acquire(); });
    while (ring.waits() == 0) std::this_thread::yield();
  }
  other.join();
  EXPECT_EQ(ring.peak_bytes(), 4096) << "the second waited for the first";
}

TEST(SlabRing, StopEndsEveryWaitAndEveryLaterOne) {
  SlabRing ring(1, 4096);
  const Slab mine = ring.acquire();
  Outcome<Done> waited;
  std::thread other([&] { waited = capture([&] { ring.acquire(); }); });
  while (ring.waits() == 0) std::this_thread::yield();
  ring.stop({.code = Code::aborted, .what = "another save began"});
  other.join();
  EXPECT_EQ(waited.fault.what, "another save began");
  EXPECT_FALSE(capture([&] { ring.acquire(); }));
}

TEST(SlabRing, WarmMakesWhatIsAskedForAndNoMoreThanItsCount) {
  SlabRing ring(3, 4096);
  ring.warm(4097);
  ring.warm(1);
  EXPECT_EQ(ring.peak_bytes(), 0);
  ring.warm(int64_t{1} << 40);
  std::vector<Slab> all;
  for (int k = 0; k < 3; ++k) all.push_back(ring.acquire());
  EXPECT_EQ(ring.waits(), 0);
  EXPECT_EQ(ring.peak_bytes(), 3 * 4096);
}

}  // namespace
}  // namespace tessera
