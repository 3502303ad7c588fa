#include "tessera/layout/overlap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <set>

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

std::array<std::byte, 4096> memory;

View strided(int64_t at, Sizes sizes, Sizes strides, DType dtype = DType::float32) {
  return {memory.data() + at * element_bytes(dtype), dtype, std::move(sizes), std::move(strides)};
}

TEST(Overlaps, NeighboursAndInterleavedHalvesShareNothing) {
  const std::vector<View> views = {strided(0, {3, 2}, {4, 1}), strided(2, {3, 2}, {4, 1}), strided(12, {4}, {1})};
  const Overlaps found = overlaps(views);
  EXPECT_THAT(found.same, IsEmpty());
  EXPECT_EQ(found.partly, std::nullopt);
}

TEST(Overlaps, TheSameViewAgainIsTied) {
  const std::vector<View> views = {strided(8, {4}, {1}), strided(0, {4}, {1}), strided(8, {4}, {1})};
  const Overlaps found = overlaps(views);
  EXPECT_THAT(found.same, ElementsAre(Pair(0, 2)));
  EXPECT_EQ(found.partly, std::nullopt);
}

TEST(Overlaps, AnyOtherSharedElementIsFound) {
  const auto partly = [](const View& a, const View& b) { return overlaps(std::vector{a, b}).partly; };
  EXPECT_EQ(partly(strided(0, {6}, {1}), strided(5, {6}, {1})), std::pair(size_t{0}, size_t{1}));
  EXPECT_EQ(partly(strided(0, {2, 3}, {3, 1}), strided(0, {3, 2}, {1, 3})), std::pair(size_t{0}, size_t{1})) << "a transpose";
  EXPECT_EQ(partly(strided(100, {1}, {1}), strided(0, {3, 2}, {1, 0})), std::pair(size_t{1}, size_t{1})) << "an expanded tensor";
  EXPECT_EQ(partly(strided(100, {1}, {1}), strided(0, {3, 3}, {1, 2})), std::pair(size_t{1}, size_t{1})) << "a sliding window";
  EXPECT_EQ(partly(strided(100, {1}, {1}), strided(0, {2, 3}, {3, 2})), std::nullopt) << "strides that interleave and never meet";
}

RC_GTEST_PROP(Overlaps, AgreesWithASetOfElements, ()) {
  const auto views = *rc::gen::container<std::vector<View>>(3, rc::gen::exec([] {
                                                              Sizes sizes, strides;
                                                              for (int d = *rc::gen::inRange(0, 4); d > 0; --d) {
                                                                sizes.push_back(*rc::gen::inRange(0, 4));
                                                                strides.push_back(*rc::gen::inRange(0, 8));
                                                              }
                                                              return strided(*rc::gen::inRange(0, 40), sizes, strides,
                                                                             *rc::gen::element(DType::float32, DType::int16));
                                                            }));
  std::set<const std::byte*> seen;
  bool shared = false;
  const Overlaps found = overlaps(views);
  for (size_t v = 0; v < views.size(); ++v) {
    if (std::ranges::any_of(found.same, [&](const auto& tie) { return tie.second == v; })) continue;
    for_each_run(views[v], [&](std::span<std::byte> run) {
      for (const std::byte& byte : run) shared |= !seen.insert(&byte).second;
    });
  }
  RC_ASSERT(found.partly.has_value() == shared);
}

}  // namespace
}  // namespace tessera
