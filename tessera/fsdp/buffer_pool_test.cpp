#include "tessera/fsdp/buffer_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

#include "tessera/fsdp/full_buffer.h"

namespace tessera {
namespace {

at::Tensor taken(BufferPool& pool, int64_t bytes) { return pool.empty(bytes, at::kByte); }

// After an iteration that had all of these in use at once.
void have_used(BufferPool& pool, const std::vector<int64_t>& sizes) {
  std::vector<at::Tensor> used;
  pool.begin_iteration();
  for (const int64_t bytes : sizes) used.push_back(taken(pool, bytes));
  pool.end_iteration();
}

TEST(BufferPool, HandsOutAgainWhatWasFreedOfTheSameSize) {
  BufferPool pool;
  have_used(pool, {1000, 1000, 3000});
  EXPECT_EQ(pool.use().kept, 5000);
  EXPECT_EQ(pool.use().in_use, 0);
  pool.reset_use();
  const at::Tensor a = taken(pool, 1000), b = taken(pool, 3000), c = taken(pool, 1000);
  EXPECT_EQ(pool.use().fresh, 0);
  EXPECT_EQ(pool.use().in_use, 5000);
  const at::Tensor d = taken(pool, 1000);
  EXPECT_EQ(pool.use().fresh, 1000);
  for (const at::Tensor& tensor : {a, c, d}) EXPECT_EQ(tensor.numel(), 1000);
  EXPECT_NE(a.data_ptr(), c.data_ptr());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data_ptr()) % 64, 0u);
}

TEST(BufferPool, MakesTensorsOfAnyDtypeAndOfNoElements) {
  BufferPool pool;
  const at::Tensor half = pool.empty(7, at::TensorOptions(at::kHalf));
  EXPECT_EQ(half.scalar_type(), at::kHalf);
  EXPECT_EQ(half.sizes(), (std::vector<int64_t>{7}));
  EXPECT_EQ(half.fill_(2).sum().item<float>(), 14);
  EXPECT_EQ(pool.use().in_use, 14);
  EXPECT_EQ(pool.empty(0, at::kFloat).numel(), 0);
}

TEST(BufferPool, KeepsNothingBeforeAnIterationHasEnded) {
  BufferPool pool;
  taken(pool, 100);
  pool.begin_iteration();
  taken(pool, 100);
  EXPECT_EQ(pool.use().kept, 0);
  pool.end_iteration();
  taken(pool, 100);
  EXPECT_EQ(pool.use().kept, 100);
}

TEST(BufferPool, GivesUpWhatTheLastIterationDidNotNeed) {
  BufferPool pool;
  have_used(pool, {100, 100, 100, 100});
  EXPECT_EQ(pool.use().kept, 400);
  have_used(pool, {100, 100});
  EXPECT_EQ(pool.use().kept, 200);
  {
    const at::Tensor more = taken(pool, 700);  // outside an iteration, as a summon
    EXPECT_EQ(pool.use().kept, 0);
  }
  EXPECT_EQ(pool.use().kept, 0);
}

TEST(BufferPool, GivesUpTheLongestKeptForAnotherSize) {
  BufferPool pool;
  have_used(pool, {100, 200});
  const at::Tensor other = taken(pool, 150);
  EXPECT_EQ(pool.use().kept, 0) << "100 is not enough";
  have_used(pool, {10, 100, 20});
  pool.reset_use();
  const at::Tensor small = taken(pool, 8);
  EXPECT_EQ(pool.use().kept, 120);
  const at::Tensor again = taken(pool, 20);
  EXPECT_EQ(pool.use().fresh, 8);
}

TEST(BufferPool, NeverHoldsMoreThanWasInUseAtOnce) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    BufferPool pool;
    std::vector<at::Tensor> used;
    int64_t most = 0, reused = 0;
    for (int i = 0; i < 2000; ++i) {
      const auto one_in = [&](uint32_t n) { return random() % n == 0; };
      if (one_in(40)) pool.begin_iteration();
      if (one_in(40)) pool.end_iteration();
      if (!used.empty() && (used.size() > 12 || one_in(2))) {
        std::swap(used[random() % used.size()], used.back());
        used.pop_back();
      } else {
        const int64_t fresh = pool.use().fresh;
        used.push_back(taken(pool, 64 * (1 + random() % 4)));
        if (pool.use().fresh == fresh) ++reused;
      }
      most = std::max(most, pool.use().in_use);
      ASSERT_LE(pool.use().in_use + pool.use().kept, most) << "seed " << seed << ", operation " << i;
      ASSERT_LE(pool.use().peak, most);
    }
    EXPECT_GT(reused, 100);
  }
}

TEST(BufferPool, LeavesMemoryToWhoeverStillViewsIt) {
  BufferPool pool;
  have_used(pool, {100, 100});
  at::Tensor tensor = taken(pool, 100).fill_(7);
  const at::Tensor view = tensor.narrow(0, 50, 50);
  tensor.reset();
  const at::Tensor a = taken(pool, 100).fill_(1), b = taken(pool, 100).fill_(1);
  EXPECT_EQ(view.sum().item<int64_t>(), 350);
}

TEST(BufferPool, KeepsNothingOnceItWasToldToStop) {
  BufferPool pool;
  have_used(pool, {100, 100});
  at::Tensor tensor = taken(pool, 100);
  pool.stop_keeping();
  EXPECT_EQ(pool.use().kept, 0);
  tensor.reset();
  have_used(pool, {100});
  EXPECT_EQ(pool.use().kept, 0);
}

TEST(BufferPool, IsOutlivedByWhatItHandedOut) {
  at::Tensor tensor;
  {
    BufferPool pool;
    have_used(pool, {100, 100});
    tensor = taken(pool, 100);
  }
  EXPECT_EQ(tensor.fill_(1).sum().item<int64_t>(), 100);
}

TEST(BufferPool, TakesMemoryBackOnAnyThread) {
  BufferPool pool;
  have_used(pool, {100, 100, 100, 100});
  pool.reset_use();
  for (int i = 0; i < 200; ++i) {
    at::Tensor a = taken(pool, 100), b = taken(pool, 100);
    std::thread other([&] { a.reset(); });
    b.reset();
    taken(pool, 100);
    other.join();
  }
  EXPECT_EQ(pool.use().kept, 400);
  EXPECT_EQ(pool.use().fresh, 0);
}

TEST(FullBuffer, ThatIsAbandonedIsNeverHandedOutAgain) {
  BufferPool pool;
  FullBuffer buffer(flat_layout({{.name = "weight", .sizes = {25}}}, 1, 1), at::kFloat, pool);
  buffer.free("freed");
  have_used(pool, {100, 100});
  buffer.allocate();
  const void* const where = buffer.flat().data_ptr();
  buffer.free("freed");
  buffer.allocate();
  EXPECT_EQ(buffer.flat().data_ptr(), where);
  buffer.abandon("abandoned");
  EXPECT_EQ(pool.use().kept, 100);
  buffer.allocate();
  const at::Tensor other = taken(pool, 100);
  EXPECT_NE(buffer.flat().data_ptr(), where);
  EXPECT_NE(other.data_ptr(), where);
}

}  // namespace
}  // namespace tessera
