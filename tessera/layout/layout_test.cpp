#include "tessera/layout/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::vector<Box>> boxes_by_rank(const Layout& layout, const Sizes& sizes, int ranks) {
  std::vector<std::vector<Box>> all;
  for (int r = 0; r < ranks; ++r) all.push_back(boxes_of(layout, sizes, r, ranks));
  return all;
}

RC_GTEST_PROP(LayoutBoxes, OfAllRanksTileTheTensorAndReplicasAreEqualBoxes, ()) {
  const Sizes sizes = *any_sizes();
  const auto spread = *any_spread(sizes);
  std::set<Box> distinct;
  std::map<Sizes, int> times;
  bool empty_box = false;
  for (const auto& boxes : boxes_by_rank(spread.layout, sizes, spread.ranks)) {
    for (const Box& box : boxes) {
      RC_ASSERT(fits(box, sizes));
      empty_box = empty_box || volume(box) == 0;
      if (!distinct.insert(box).second) continue;
      for (const Sizes& index : elements_of(box)) ++times[index];
    }
  }
  RC_ASSERT(static_cast<int64_t>(times.size()) == volume(sizes));
  for (const auto& [index, count] : times) RC_ASSERT(count == 1);
  RC_ASSERT(empty_box == (volume(sizes) == 0));
}

RC_GTEST_PROP(LayoutBoxes, OfAllRanksAtOnceAreThoseOfEach, ()) {
  const Sizes sizes = *any_sizes();
  const auto spread = *any_spread(sizes);
  std::vector<std::vector<Box>> found(static_cast<size_t>(spread.ranks));
  int last = 0;
  for (const auto& [box, rank, index] : boxes_of_all(spread.layout, sizes, spread.ranks)) {
    RC_ASSERT(rank >= last);
    auto& of_rank = found[static_cast<size_t>(last = rank)];
    RC_ASSERT(index == static_cast<int32_t>(of_rank.size()));
    of_rank.push_back(box);
  }
  RC_ASSERT(found == boxes_by_rank(spread.layout, sizes, spread.ranks));
}

// A row-major mesh, each of whose cuts is a torch.chunk of the indices that are left.
RC_GTEST_PROP(LayoutBoxes, OfAGridAreChunksOfChunks, ()) {
  const Sizes sizes = *any_sizes(1);
  const auto [grid, ranks] = *any_grid(sizes);
  std::vector<std::vector<std::vector<int64_t>>> left(static_cast<size_t>(ranks));  // rank → dimension → indices
  for (auto& dims : left) {
    for (const int64_t size : sizes) {
      dims.emplace_back();
      for (int64_t i = 0; i < size; ++i) dims.back().push_back(i);
    }
  }
  for (size_t d = 0; d < grid.mesh.size(); ++d) {
    size_t inner = 1;
    for (size_t e = d + 1; e < grid.mesh.size(); ++e) inner *= static_cast<size_t>(grid.mesh[e].ranks);
    if (!grid.mesh[d].shard) continue;
    const auto parts = static_cast<size_t>(grid.mesh[d].ranks);
    for (size_t r = 0; r < left.size(); ++r) {
      auto& indices = left[r][static_cast<size_t>(*grid.mesh[d].shard)];
      const size_t chunk = (indices.size() + parts - 1) / parts;
      const size_t at = r / inner % parts;
      std::vector<int64_t> mine;
      for (size_t i = at * chunk; i < std::min((at + 1) * chunk, indices.size()); ++i) mine.push_back(indices[i]);
      indices = mine;
    }
  }
  for (int r = 0; r < ranks; ++r) {
    const auto& dims = left[static_cast<size_t>(r)];
    std::vector<Box> expected = {{}};
    for (const auto& indices : dims) {
      if (indices.empty()) {
        expected.clear();
        break;
      }
      expected[0].offsets.push_back(indices.front());
      expected[0].sizes.push_back(static_cast<int64_t>(indices.size()));
    }
    RC_ASSERT(boxes_of(grid, sizes, r, ranks) == expected);
  }
}

TEST(LayoutBoxes, OfAGridAreThoseThatDTensorHolds) {
  // torch: DTensor of [5, 4] on a (2, 2) mesh, placements (Shard(0), Shard(1)).
  EXPECT_THAT(boxes_by_rank(Grid{{{2, 0}, {2, 1}}}, {5, 4}, 4),
              ElementsAre(ElementsAre(Box{{0, 0}, {3, 2}}), ElementsAre(Box{{0, 2}, {3, 2}}), ElementsAre(Box{{3, 0}, {2, 2}}),
                          ElementsAre(Box{{3, 2}, {2, 2}})));
  // (Shard(0), Shard(0)) on 5 rows: 3 and 2, then 2 + 1 and 1 + 1.
  EXPECT_THAT(boxes_by_rank(Grid{{{2, 0}, {2, 0}}}, {5}, 4),
              ElementsAre(ElementsAre(Box{{0}, {2}}), ElementsAre(Box{{2}, {1}}), ElementsAre(Box{{3}, {1}}), ElementsAre(Box{{4}, {1}})));
  // (Replicate(), Shard(0)): hybrid sharding.
  EXPECT_THAT(boxes_by_rank(Grid{{{2}, {2, 0}}}, {3}, 4),
              ElementsAre(ElementsAre(Box{{0}, {2}}), ElementsAre(Box{{2}, {1}}), ElementsAre(Box{{0}, {2}}), ElementsAre(Box{{2}, {1}})));
  // 5 rows over 4 ranks are chunks of 2, 2, 1 and none.
  EXPECT_THAT(boxes_of(Grid{{{4, 0}}}, Sizes{5, 2}, 3, 4), IsEmpty());
}

TEST(LayoutBoxes, OfAFlatRangeAreTheTensorsPartOfTheRanksShard) {
  const FlatRange range{.offset = 3, .shard_numel = 4};  // of a 2 × 3 tensor: elements 3 to 9 of a buffer of 12
  EXPECT_THAT(boxes_of(range, Sizes{2, 3}, 0, 3), ElementsAre(Box{{0, 0}, {1, 1}}));
  EXPECT_THAT(boxes_of(range, Sizes{2, 3}, 1, 3), ElementsAre(Box{{0, 1}, {1, 2}}, Box{{1, 0}, {1, 2}}));
  EXPECT_THAT(boxes_of(range, Sizes{2, 3}, 2, 3), ElementsAre(Box{{1, 2}, {1, 1}}));
  // Two copies of the buffer, three ranks each.
  const FlatRange copied{.offset = 3, .shard_numel = 4, .ranks = 3};
  for (int r = 0; r < 6; ++r) EXPECT_EQ(boxes_of(copied, Sizes{2, 3}, r, 6), boxes_of(range, Sizes{2, 3}, r % 3, 3)) << r;
}

TEST(LayoutBoxes, AnEmptyTensorIsOneEmptyBoxOnTheLeaderOrOnAllReplicas) {
  const Sizes sizes = {0, 4};
  for (const Layout& layout : {Layout(Grid{{{2, 1}}}), Layout(FlatRange{.offset = 2, .shard_numel = 1})}) {
    EXPECT_THAT(boxes_of(layout, sizes, 0, 2), ElementsAre(whole(sizes)));
    EXPECT_THAT(boxes_of(layout, sizes, 1, 2), IsEmpty());
  }
  EXPECT_THAT(boxes_of(Replicated{}, sizes, 1, 2), ElementsAre(whole(sizes)));
  const Layout copied = FlatRange{.offset = 2, .shard_numel = 1, .ranks = 2};
  for (int r = 0; r < 4; ++r) EXPECT_EQ(boxes_of(copied, sizes, r, 4).size(), r % 2 == 0 ? 1 : 0) << r;
}

TEST(LayoutBoxes, RefuseALayoutOfAnotherShapeOrNumberOfRanks) {
  constexpr int64_t huge = int64_t{1} << 62;
  const std::tuple<Layout, Sizes, const char*> bad[] = {
      {Grid{{{2, 0}}}, {4}, "2 ranks where there are 4"},
      {Grid{{{3, 0}, {2}}}, {4}, "6 ranks where there are 4"},
      {Grid{{{0, 0}, {4}}}, {4}, "dimension of 0 ranks"},
      {Grid{{{-2}, {-2}}}, {4}, "dimension of -2 ranks"},
      {Grid{}, {4}, "1 ranks where there are 4"},
      {Grid{{{4, 1}}}, {4}, "cuts dimension 1"},
      {Grid{{{4, -1}}}, {4}, "cuts dimension -1"},
      {Grid{{{4, 0}}}, {}, "cuts dimension 0"},
      {FlatRange{.offset = -1, .shard_numel = 4}, {4}, "negative"},
      {FlatRange{.offset = 0, .shard_numel = -4}, {4}, "negative"},
      {FlatRange{.offset = 1, .shard_numel = 4}, {16}, "16 elements from 1 on, in a buffer of 16"},
      {FlatRange{.offset = 17, .shard_numel = 4}, {0}, "from 17 on"},
      {FlatRange{.offset = 0, .shard_numel = 4, .ranks = 3}, {4}, "3 ranks where there are 4"},
      {FlatRange{.offset = 0, .shard_numel = 4, .ranks = 2}, {9}, "in a buffer of 8"},
      {FlatRange{.offset = 0, .shard_numel = huge}, {4}, "overflows"},
      {Replicated{}, {huge, huge}, "overflows"},
      {Replicated{}, {-1}, "negative"},
  };
  for (const auto& [layout, sizes, what] : bad) {
    const auto outcome = capture([&] { return boxes_of(layout, sizes, 1, 4); });
    EXPECT_EQ(outcome.fault.code, Code::invalid_argument) << what;
    EXPECT_THAT(outcome.fault.what, HasSubstr(what));
  }
}

RC_GTEST_PROP(LayoutBytes, AreEqualForEqualLayoutsAlone, ()) {
  const Sizes sizes = *any_sizes(1, 2);
  const auto bytes = [](const Layout& layout) {
    ByteWriter out;
    encode(layout, out);
    return out.take();
  };
  const Layout a = (*any_spread(sizes)).layout, b = (*any_spread(sizes)).layout;
  RC_ASSERT((bytes(a) == bytes(b)) == (a == b));
}

}  // namespace
}  // namespace tessera
