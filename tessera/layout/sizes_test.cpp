#include "tessera/layout/sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <span>
#include <vector>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using Plain = std::vector<int64_t>;

Plain plain(const Sizes& sizes) { return {sizes.begin(), sizes.end()}; }

TEST(Sizes, UpToFourNumbersStandInTheObject) {
  const Sizes four = {1, 2, 3, 4};
  const auto* const object = reinterpret_cast<const int64_t*>(&four);
  EXPECT_TRUE(four.data() >= object && four.data() < object + sizeof four / sizeof(int64_t));
  const Sizes five = {1, 2, 3, 4, 5};
  EXPECT_FALSE(five.data() >= reinterpret_cast<const int64_t*>(&five) && five.data() < reinterpret_cast<const int64_t*>(&five + 1));
  EXPECT_THAT(five, ElementsAre(1, 2, 3, 4, 5));
}

TEST(Sizes, AreMadeAsAVectorIs) {
  EXPECT_THAT(Sizes(3), ElementsAre(0, 0, 0));
  EXPECT_THAT(Sizes(6, 7), ElementsAre(7, 7, 7, 7, 7, 7));
  EXPECT_THAT((Sizes{3, 7}), ElementsAre(3, 7));
  EXPECT_THAT(Sizes(Plain{1, 2, 3, 4, 5}), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_TRUE(Sizes().empty());
  EXPECT_EQ(std::span<const int64_t>(Sizes{1, 2}).size(), 2u);
  EXPECT_THROW((Sizes{1, 2}).at(2), std::out_of_range);
  EXPECT_THROW(Sizes(size_t{1} << 40), std::length_error);
}

TEST(Sizes, WhatWasMovedFromIsEmptyAndItsNumbersStayWhereTheyWere) {
  Sizes many = {1, 2, 3, 4, 5, 6};
  const int64_t* const place = many.data();
  const Sizes moved = std::move(many);
  EXPECT_EQ(moved.data(), place);
  EXPECT_TRUE(many.empty());  // NOLINT(bugprone-use-after-move): that is what is promised
  Sizes few = {1, 2};
  Sizes other = {9, 9, 9, 9, 9};
  other = std::move(few);
  EXPECT_THAT(other, ElementsAre(1, 2));
  EXPECT_TRUE(few.empty());  // NOLINT(bugprone-use-after-move)
}

TEST(Sizes, AssignedToItselfStaysWhatItIs) {
  for (Sizes sizes : {Sizes{1, 2}, Sizes{1, 2, 3, 4, 5}}) {
    const Plain before = plain(sizes);
    const Sizes& same = sizes;
    sizes = same;
    EXPECT_EQ(plain(sizes), before);
  }
}

RC_GTEST_PROP(Sizes, CompareAsVectorsDo, ()) {
  const auto any = rc::gen::mapcat(uniform<size_t>(0, 7), [](size_t n) { return rc::gen::container<Plain>(n, uniform<int64_t>(-1, 2)); });
  const Plain a = *any, b = *any;
  const Sizes of_a(a.begin(), a.end()), of_b(b.begin(), b.end());
  RC_ASSERT((of_a == of_b) == (a == b));
  RC_ASSERT((of_a <=> of_b) == (a <=> b));
  RC_ASSERT((of_a < of_b) == (a < b));
}

// Whatever is done to both, a vector and Sizes hold the same.
RC_GTEST_PROP(Sizes, DoAsAVectorDoes, ()) {
  Sizes sizes;
  Plain expected;
  const int steps = *uniform(0, 30);
  for (int step = 0; step < steps; ++step) {
    const int64_t value = *uniform<int64_t>(-9, 10);
    const auto at = *uniform<size_t>(0, expected.size() + 1);
    const auto places = [&](auto& of, size_t i) { return of.begin() + static_cast<std::ptrdiff_t>(i); };
    switch (*uniform(0, 9)) {
      case 0:
      case 1:
        sizes.push_back(value);
        expected.push_back(value);
        break;
      case 2: {
        const auto* const where = sizes.insert(places(sizes, at), value);
        RC_ASSERT(where == places(sizes, at));
        expected.insert(places(expected, at), value);
        break;
      }
      case 3: {
        const Plain more(*uniform<size_t>(0, 4), value);
        sizes.insert(places(sizes, at), more.begin(), more.end());
        expected.insert(places(expected, at), more.begin(), more.end());
        break;
      }
      case 4:
        if (expected.empty()) break;
        sizes.pop_back();
        expected.pop_back();
        break;
      case 5: {
        const auto count = *uniform<size_t>(0, 9);
        sizes.resize(count, value);
        expected.resize(count, value);
        break;
      }
      case 6: {
        const auto last = *uniform<size_t>(at, expected.size() + 1);
        sizes.erase(places(sizes, at), places(sizes, last));
        expected.erase(places(expected, at), places(expected, last));
        break;
      }
      case 7: {
        const Sizes copy = sizes;
        Sizes other = {1, 2, 3};
        other.swap(sizes);
        sizes = copy;
        RC_ASSERT(other == copy);
        break;
      }
      default: {
        Sizes moved = std::move(sizes);
        sizes = Sizes(5, 1);
        sizes = std::move(moved);
      }
    }
    RC_ASSERT(plain(sizes) == expected);
    RC_ASSERT(plain(Sizes(sizes)) == expected);
    RC_ASSERT(Plain(sizes.rbegin(), sizes.rend()) == Plain(expected.rbegin(), expected.rend()));
    RC_ASSERT(sizes.size() == expected.size() && sizes.empty() == expected.empty() && sizes.capacity() >= sizes.size());
  }
}

}  // namespace
}  // namespace tessera
