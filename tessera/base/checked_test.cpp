#include "tessera/base/checked.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

using Sizes = std::vector<int64_t>;

template <class Work>
Code code_of(Work work) {
  const auto outcome = capture(work);
  EXPECT_FALSE(outcome) << "it was expected to fail";
  return outcome.fault.code;
}

// Against arithmetic in 128 bits.
RC_GTEST_PROP(Checked, IsExactOrThrows, ()) {
  const auto any = rc::gen::oneOf(rc::gen::arbitrary<int64_t>(),
                                  rc::gen::element(INT64_MAX, INT64_MIN, int64_t{1} << 31, int64_t{1} << 32, int64_t{-1}));
  const int64_t a = *any;
  const int64_t b = *any;
  const auto agrees = [](__int128 exact, const Outcome<int64_t>& outcome) {
    const bool fits = exact >= INT64_MIN && exact <= INT64_MAX;
    return fits ? outcome && *outcome.value == static_cast<int64_t>(exact) : !outcome && outcome.fault.code == Code::corrupt;
  };
  RC_ASSERT(agrees(static_cast<__int128>(a) + b, capture([&] { return checked_add(a, b); })));
  RC_ASSERT(agrees(static_cast<__int128>(a) * b, capture([&] { return checked_multiply(a, b); })));
}

TEST(Checked, ThrowsTheCodeThatTheCallerNames) {
  EXPECT_EQ(code_of([] { checked_add(INT64_MAX, 1, Code::invalid_argument); }), Code::invalid_argument);
  EXPECT_EQ(code_of([] { checked_volume(Sizes{-1}, Code::invalid_argument); }), Code::invalid_argument);
}

TEST(CheckedVolume, CountsElements) {
  EXPECT_EQ(checked_volume(Sizes{}), 1);
  EXPECT_EQ(checked_volume(Sizes{2, 3, 4}), 24);
  EXPECT_EQ(checked_volume(Sizes{2, 0, 4}), 0);
}

TEST(CheckedVolume, RefusesNegativeAndOverflowingSizesEvenWhereOneIsZero) {
  constexpr int64_t big = int64_t{1} << 32;
  for (const Sizes& sizes : {Sizes{-1}, Sizes{0, -1}, Sizes{big, big}, Sizes{0, big, big}, Sizes{big, big, 0}}) {
    EXPECT_EQ(code_of([&] { checked_volume(sizes); }), Code::corrupt);
  }
}

}  // namespace
}  // namespace tessera
