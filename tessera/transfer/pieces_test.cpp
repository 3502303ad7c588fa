#include "tessera/transfer/pieces.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

TEST(Pieces, RowsThatFitTravelTogether) {
  EXPECT_EQ(next_piece(Sizes{10, 4}, 0, 12), (Box{{0, 0}, {3, 4}}));
  EXPECT_EQ(next_piece(Sizes{10, 4}, 36, 12), (Box{{9, 0}, {1, 4}}));
}

TEST(Pieces, ARowTooLongIsCut) {
  EXPECT_EQ(next_piece(Sizes{2, 10}, 0, 4), (Box{{0, 0}, {1, 4}}));
  EXPECT_EQ(next_piece(Sizes{2, 10}, 8, 4), (Box{{0, 8}, {1, 2}}));
  EXPECT_EQ(next_piece(Sizes{2, 10}, 10, 4), (Box{{1, 0}, {1, 4}}));
}

TEST(Pieces, ATensorWithoutDimensionsIsOnePiece) { EXPECT_EQ(next_piece(Sizes{}, 0, 1), Box{}); }

TEST(Pieces, AnEmptyTensorHasNone) {
  for_each_piece(Sizes{3, 0}, 1, [](const Box& box) { FAIL() << to_string(box); });
}

RC_GTEST_PROP(Pieces, WalkEveryElementOnceInRowMajorOrder, ()) {
  const auto sizes = *rc::gen::resize(4, rc::gen::container<Sizes>(rc::gen::inRange<int64_t>(1, 6)));
  const int64_t most = *rc::gen::inRange<int64_t>(1, 40);
  const Sizes strides = row_major(sizes);
  int64_t begin = 0;
  while (begin < volume(sizes)) {
    const Box piece = next_piece(sizes, begin, most);
    RC_ASSERT(fits(piece, sizes));
    RC_ASSERT(volume(piece) >= 1 && volume(piece) <= most);
    int64_t first = 0;
    for (size_t d = 0; d < sizes.size(); ++d) first += piece.offsets[d] * strides[d];
    RC_ASSERT(first == begin);
    // Contiguous in the tensor: one run.
    int runs = 0;
    for_each_run(piece.sizes, strides, row_major(piece.sizes), [&](int64_t, int64_t, int64_t) { ++runs; });
    RC_ASSERT(runs == 1);
    begin += volume(piece);
  }
  RC_ASSERT(begin == volume(sizes));
}

}  // namespace
}  // namespace tessera
