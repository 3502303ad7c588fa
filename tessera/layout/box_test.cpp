#include "tessera/layout/box.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::set<Sizes> set_of(const Box& box) {
  const auto elements = elements_of(box);
  return {elements.begin(), elements.end()};
}

RC_GTEST_PROP(Box, VolumeIsTheNumberOfElements, ()) {
  const Sizes sizes = *any_sizes();
  const Box box = *any_box(sizes);
  RC_ASSERT(volume(box) == static_cast<int64_t>(elements_of(box).size()));
  RC_ASSERT(volume(whole(sizes)) == volume(sizes));
}

RC_GTEST_PROP(Intersect, HoldsTheElementsThatBothHold, ()) {
  const Sizes sizes = *any_sizes();
  const Box a = *any_box(sizes);
  const Box b = *any_box(sizes);
  std::set<Sizes> both;
  for (const Sizes& index : set_of(a)) {
    if (set_of(b).contains(index)) both.insert(index);
  }
  const auto found = intersect(a, b);
  RC_ASSERT(found.has_value() == !both.empty());
  if (found) RC_ASSERT(set_of(*found) == both);
  RC_ASSERT(found == intersect(b, a));
}

TEST(Intersect, BoxesThatTouchShareNothingAndOneWithoutDimensionsMeetsItself) {
  EXPECT_EQ(intersect({{0}, {2}}, {{2}, {2}}), std::nullopt);
  EXPECT_EQ(intersect({{0, 0}, {2, 2}}, {{0, 0}, {2, 0}}), std::nullopt);
  EXPECT_EQ(intersect({}, {}), (Box{}));
}

RC_GTEST_PROP(Fits, ABoxFitsWhereTheShapeHoldsAllItsElements, ()) {
  const Sizes sizes = *any_sizes();
  Box box = *any_box(sizes);
  RC_ASSERT(fits(box, sizes));
  if (sizes.empty()) return;
  const auto d = *uniform<size_t>(0, sizes.size());
  const Box inside = box;
  box.sizes[d] = sizes[d] - box.offsets[d] + *uniform<int64_t>(1, 4);
  RC_ASSERT(!fits(box, sizes));
  box = inside;
  box.offsets[d] = -*uniform<int64_t>(1, 4);
  RC_ASSERT(!fits(box, sizes));
  box = inside;
  box.offsets.push_back(0);
  RC_ASSERT(!fits(box, sizes));
}

TEST(Fits, IsSafeForAnyNumbers) {
  for (const int64_t offset : {INT64_MIN, int64_t{-1}, INT64_MAX}) {
    for (const int64_t size : {INT64_MIN, int64_t{-1}, int64_t{1}, INT64_MAX}) {
      EXPECT_FALSE(fits({{offset}, {size}}, Sizes{10})) << offset << " " << size;
    }
  }
  EXPECT_FALSE(fits({{1}, {INT64_MAX}}, Sizes{INT64_MAX}));
  EXPECT_TRUE(fits({{0}, {INT64_MAX}}, Sizes{INT64_MAX}));
  EXPECT_TRUE(fits({{10}, {0}}, Sizes{10})) << "an empty box may lie on the edge";
  EXPECT_FALSE(fits({{11}, {0}}, Sizes{10}));
  EXPECT_FALSE(fits({{0}, {}}, Sizes{10}));
}

RC_GTEST_PROP(Relative, MovingBackByTheCornerGivesTheSameBox, ()) {
  const Sizes sizes = *any_sizes();
  const Box outer = *any_box(sizes);
  const Box inner = *any_box(sizes);
  Box back = relative(inner, outer);
  for (size_t d = 0; d < sizes.size(); ++d) back.offsets[d] += outer.offsets[d];
  RC_ASSERT(back == inner);
}

TEST(ToString, IsShort) {
  EXPECT_EQ(to_string(std::span<const int64_t>(Sizes{2, 3})), "[2, 3]");
  EXPECT_EQ(to_string(std::span<const int64_t>(Sizes{})), "[]");
  EXPECT_EQ(to_string(Box{{0, 5}, {2, 3}}), "[0:2, 5:8]");
  EXPECT_EQ(to_string(Box{}), "[]");
}

// The elements of the boxes, one box after the other, are the range's elements in row-major order: so the boxes are
// disjoint, complete and sorted.
RC_GTEST_PROP(BoxesOfRange, AreTheRangeInOrderAndAtMostTwiceTheDimensionsLessOne, ()) {
  const Sizes sizes = *any_sizes();
  const int64_t total = volume(sizes);
  const auto begin = *uniform<int64_t>(0, total + 1);
  const auto end = *uniform<int64_t>(begin, total + 1);
  std::vector<Sizes> expected = elements_of(whole(sizes));
  expected = {expected.begin() + begin, expected.begin() + end};
  std::vector<Sizes> found;
  const std::vector<Box> boxes = boxes_of_range(sizes, begin, end);
  for (const Box& box : boxes) {
    RC_ASSERT(fits(box, sizes));
    RC_ASSERT(volume(box) > 0);
    for (const Sizes& index : elements_of(box)) found.push_back(index);
  }
  RC_ASSERT(found == expected);
  RC_ASSERT(boxes.size() <= std::max<size_t>(1, 2 * sizes.size() - std::min<size_t>(1, sizes.size())));
}

TEST(BoxesOfRange, WhatIsWholeStaysOneBox) {
  EXPECT_THAT(boxes_of_range(Sizes{4, 3, 2}, 0, 24), ElementsAre(whole(Sizes{4, 3, 2})));
  EXPECT_THAT(boxes_of_range(Sizes{4, 3, 2}, 6, 18), ElementsAre(Box{{1, 0, 0}, {2, 3, 2}}));
  EXPECT_THAT(boxes_of_range(Sizes{}, 0, 1), ElementsAre(Box{}));
}

TEST(BoxesOfRange, ReachesItsLimitInTheWorstCase) { EXPECT_EQ(boxes_of_range(Sizes{4, 4, 4}, 1, 63).size(), 5u); }

TEST(BoxesOfRange, AnEmptyRangeHasNone) {
  EXPECT_THAT(boxes_of_range(Sizes{4, 3}, 5, 5), IsEmpty());
  EXPECT_THAT(boxes_of_range(Sizes{0, 3}, 0, 0), IsEmpty());
  EXPECT_THAT(boxes_of_range(Sizes{}, 0, 0), IsEmpty());
}

TEST(BoxesOfRange, CostsNothingForLargeTensors) {
  const int64_t n = int64_t{1} << 40;
  EXPECT_THAT(boxes_of_range(Sizes{n, 1024}, 1, 1024 * n - 1),
              ElementsAre(Box{{0, 1}, {1, 1023}}, Box{{1, 0}, {n - 2, 1024}}, Box{{n - 1, 0}, {1, 1023}}));
}

}  // namespace
}  // namespace tessera
