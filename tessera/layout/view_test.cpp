#include "tessera/layout/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

// A view of its own memory in which no two elements share a place: dimensions in any order, with gaps.
struct Owned {
  std::vector<int32_t> memory;
  View view;
};
std::shared_ptr<Owned> any_owned(const Sizes& sizes) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[*uniform<size_t>(0, i)]);
  Sizes strides(sizes.size());
  int64_t step = *uniform<int64_t>(1, 3);
  for (const size_t d : order) {
    strides[d] = step;
    step = step * std::max<int64_t>(1, sizes[d]) + *uniform<int64_t>(0, 2);
  }
  auto owned = std::make_shared<Owned>();
  owned->memory.resize(static_cast<size_t>(step));
  std::iota(owned->memory.begin(), owned->memory.end(), 1);
  owned->view = {reinterpret_cast<std::byte*>(owned->memory.data()), DType::int32, sizes, strides};
  return owned;
}

int32_t& element(const View& view, const Sizes& index) {
  int64_t at = 0;
  for (size_t d = 0; d < index.size(); ++d) at += index[d] * view.strides[d];
  return reinterpret_cast<int32_t*>(view.data)[at];
}
std::vector<int32_t> elements(const View& view) {
  std::vector<int32_t> values;
  for (const Sizes& index : elements_of(whole(view.sizes))) values.push_back(element(view, index));
  return values;
}

RC_GTEST_PROP(View, ARowMajorViewIsDense, ()) {
  const Sizes sizes = *any_sizes();
  std::vector<std::byte> memory(static_cast<size_t>(volume(sizes)) * 4);
  const View view = dense_view(memory.data(), DType::float32, sizes);
  RC_ASSERT(is_dense(view));
  RC_ASSERT(bytes_of(view) == static_cast<int64_t>(memory.size()));
}

RC_GTEST_PROP(View, IsDenseWhenElementsLieOneAfterTheOther, ()) {
  const Sizes sizes = *any_sizes();
  const auto owned = any_owned(sizes);
  const std::vector<Sizes> indices = elements_of(whole(sizes));
  bool dense = true;
  for (size_t i = 0; i < indices.size(); ++i) dense = dense && &element(owned->view, indices[i]) == owned->memory.data() + i;
  RC_ASSERT(is_dense(owned->view) == dense);
}

TEST(View, AnyStrideOfADimensionOfOneIsDenseAndSoIsNothingAtAll) {
  EXPECT_TRUE(is_dense({nullptr, DType::int8, {3, 1, 2}, {2, 77, 1}}));
  EXPECT_FALSE(is_dense({nullptr, DType::int8, {3, 2, 2}, {2, 77, 1}}));
  EXPECT_TRUE(is_dense({nullptr, DType::int8, {0, 5}, {9, 9}}));
  EXPECT_TRUE(is_dense({nullptr, DType::int8, {5, 0}, {9, 9}}));
  EXPECT_TRUE(is_dense({nullptr, DType::int8, {}, {}}));
}

RC_GTEST_PROP(Part, HoldsTheElementsOfItsBox, ()) {
  const Sizes sizes = *any_sizes();
  const auto owned = any_owned(sizes);
  const Box box = *any_box(sizes);
  std::vector<int32_t> expected;
  for (const Sizes& index : elements_of(box)) expected.push_back(element(owned->view, index));
  const View piece = part(owned->view, box);
  RC_ASSERT(piece.sizes == box.sizes);
  RC_ASSERT(elements(piece) == expected);
}

TEST(Part, OfAViewWithoutMemoryStaysWithout) {
  const View nothing = dense_view(nullptr, DType::float64, {0, 4});
  EXPECT_EQ(part(nothing, {{0, 4}, {0, 0}}).data, nullptr);
  EXPECT_EQ(part(nothing, {{0, 1}, {0, 3}}).sizes, (Sizes{0, 3}));
}

TEST(Part, KeepsTheOwner) {
  const auto owner = std::make_shared<std::vector<std::byte>>(16);
  const View view = dense_view(owner->data(), DType::int32, {4}, owner);
  EXPECT_EQ(part(view, {{1}, {2}}).owner, owner);
}

// Both walks together: the runs, one after the other, visit every element once, in row-major order, and each run is
// contiguous on both sides.
RC_GTEST_PROP(ForEachRun, VisitsEveryElementOfBothInRowMajorOrder, ()) {
  const Sizes sizes = *any_sizes();
  const auto a = any_owned(sizes);
  const auto b = any_owned(sizes);
  std::vector<std::pair<int64_t, int64_t>> expected;
  for (const Sizes& index : elements_of(whole(sizes))) {
    expected.emplace_back(&element(a->view, index) - a->memory.data(), &element(b->view, index) - b->memory.data());
  }
  std::vector<std::pair<int64_t, int64_t>> found;
  for_each_run(sizes, a->view.strides, b->view.strides, [&](int64_t at_a, int64_t at_b, int64_t count) {
    RC_ASSERT(count > 0);
    for (int64_t i = 0; i < count; ++i) found.emplace_back(at_a + i, at_b + i);
  });
  RC_ASSERT(found == expected);
}

TEST(ForEachRun, WhatIsContiguousInBothIsOneRun) {
  std::vector<int64_t> counts;
  const auto note = [&](int64_t, int64_t, int64_t count) { counts.push_back(count); };
  for_each_run(Sizes{4, 3, 2}, Sizes{6, 2, 1}, Sizes{6, 2, 1}, note);
  EXPECT_THAT(counts, ElementsAre(24));
  counts.clear();
  for_each_run(Sizes{2, 3, 2}, Sizes{100, 2, 1}, Sizes{6, 2, 1}, note);  // a gap between rows on one side
  EXPECT_THAT(counts, ElementsAre(6, 6));
  counts.clear();
  for_each_run(Sizes{}, Sizes{}, Sizes{}, note);
  EXPECT_THAT(counts, ElementsAre(1));
  counts.clear();
  for_each_run(Sizes{3, 0}, Sizes{1, 1}, Sizes{1, 1}, note);
  EXPECT_THAT(counts, ElementsAre());
}

RC_GTEST_PROP(ForEachRun, TheBytesOfAViewComeInRowMajorOrder, ()) {
  const auto owned = any_owned(*any_sizes());
  std::vector<int32_t> found;
  for_each_run(owned->view, [&](std::span<std::byte> run) {
    const auto* first = reinterpret_cast<const int32_t*>(run.data());
    found.insert(found.end(), first, first + run.size() / sizeof(int32_t));
  });
  RC_ASSERT(found == elements(owned->view));
}

RC_GTEST_PROP(Copy, MovesEveryElementAndTouchesNothingBetween, ()) {
  const Sizes sizes = *any_sizes();
  const auto from = any_owned(sizes);
  const auto to = any_owned(sizes);
  std::ranges::fill(to->memory, -1);
  copy(from->view, to->view);
  RC_ASSERT(elements(to->view) == elements(from->view));
  const auto untouched = std::ranges::count(to->memory, -1);
  RC_ASSERT(untouched == static_cast<int64_t>(to->memory.size()) - volume(sizes));
}

TEST(Copy, ReadsABroadcastElementForEachOfItsPlaces) {
  int32_t one = 7;
  std::vector<int32_t> to(6);
  copy({reinterpret_cast<std::byte*>(&one), DType::int32, {2, 3}, {0, 0}},
       dense_view(reinterpret_cast<std::byte*>(to.data()), DType::int32, {2, 3}));
  EXPECT_THAT(to, ElementsAre(7, 7, 7, 7, 7, 7));
}

}  // namespace
}  // namespace tessera
