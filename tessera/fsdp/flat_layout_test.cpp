#include "tessera/fsdp/flat_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

FlatLayout layout_of(std::vector<Sizes> sizes, int world_size, int64_t alignment) {
  std::vector<FlatParameter> parameters;
  for (Sizes& one : sizes) parameters.push_back({.name = "p" + std::to_string(parameters.size()), .sizes = std::move(one)});
  return flat_layout(std::move(parameters), world_size, alignment);
}

TEST(FlatLayout, SplitsEvenlyAndRoundsUpToTheAlignment) {
  const FlatLayout exact = layout_of({{3, 5}, {4}}, 2, 1);
  EXPECT_EQ(exact.numel, 19);
  EXPECT_EQ(exact.shard_numel, 10);
  EXPECT_EQ(exact.range(0), (Range{0, 10}));
  EXPECT_EQ(exact.range(1), (Range{10, 19}));
  const FlatLayout aligned = layout_of({{3, 5}, {4}}, 2, 4);
  EXPECT_EQ(aligned.shard_numel, 12);
  EXPECT_EQ(aligned.padded_numel, 24);
  EXPECT_EQ(aligned.range(1), (Range{12, 19}));
}

TEST(FlatLayout, RanksBeyondTheEndHoldPaddingOnly) {
  const FlatLayout layout = layout_of({{3}}, 4, 1);
  EXPECT_EQ(layout.range(3), (Range{3, 3}));
  EXPECT_TRUE(layout.pieces(3, 0).empty());
}

TEST(FlatLayout, AParameterWithoutElementsIsOneEmptyBoxOnRankZero) {
  const FlatLayout layout = layout_of({{2}, {0, 3}, {2}}, 2, 1);
  EXPECT_EQ(layout.pieces(0, 1), (std::vector<FlatPiece>{{Box{{0, 0}, {0, 3}}, 0}}));
  EXPECT_TRUE(layout.pieces(1, 1).empty());
  EXPECT_EQ(layout_of({{0}}, 3, 4).padded_numel, 0);
}

TEST(FlatLayout, AScalarHasABoxWithoutDimensions) {
  const FlatLayout layout = layout_of({{2}, {}}, 2, 1);
  EXPECT_EQ(layout.pieces(1, 1), (std::vector<FlatPiece>{{Box{{}, {}}, 0}}));
}

// A saver that knows the layout alone knows every rank's pieces.
RC_GTEST_PROP(FlatLayout, ItsPiecesAreTheBoxesOfItsLayout, ()) {
  std::vector<Sizes> sizes;
  for (auto count = *rc::gen::inRange<size_t>(1, 5); count > 0; --count)
    sizes.push_back(*rc::gen::resize(4, rc::gen::container<Sizes>(rc::gen::inRange<int64_t>(0, 5))));
  const int ranks = *rc::gen::inRange(1, 6);
  const FlatLayout layout = layout_of(sizes, ranks, *rc::gen::inRange<int64_t>(1, 9));
  for (int rank = 0; rank < ranks; ++rank) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      std::vector<Box> boxes;
      for (const FlatPiece& piece : layout.pieces(rank, i)) boxes.push_back(piece.box);
      RC_ASSERT(boxes == boxes_of(layout.layout_of(i), sizes[i], rank, ranks));
    }
    const Range range = layout.range(rank);
    const std::vector<Box> mine = boxes_of(layout.layout_of_buffer(), Sizes{layout.numel}, rank, ranks);
    if (layout.numel > 0) RC_ASSERT(mine == boxes_of_range(Sizes{layout.numel}, range.begin, range.end));
    else RC_ASSERT(mine.size() == (rank == 0 ? 1u : 0u));
  }
}

// Every element of every parameter is in exactly one piece, at the place in the shard that holds it.
RC_GTEST_PROP(FlatLayout, PiecesCoverEveryElementOnceAndKnowItsPlace, ()) {
  const auto count = *rc::gen::inRange<size_t>(0, 5);
  std::vector<Sizes> sizes;
  for (size_t i = 0; i < count; ++i) sizes.push_back(*rc::gen::resize(4, rc::gen::container<Sizes>(rc::gen::inRange<int64_t>(0, 5))));
  const int ranks = *rc::gen::inRange(1, 6);
  const FlatLayout layout = layout_of(sizes, ranks, *rc::gen::inRange<int64_t>(1, 9));
  RC_ASSERT(layout.padded_numel >= layout.numel);
  int64_t covered = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    for (size_t i = 0; i < layout.parameters.size(); ++i) {
      int64_t at = layout.part_offset(rank, i);
      int64_t element = layout.part(rank, i).begin;
      for (const FlatPiece& piece : layout.pieces(rank, i)) {
        RC_ASSERT(fits(piece.box, layout.parameters[i].sizes));
        if (volume(piece.box) == 0) continue;
        RC_ASSERT(piece.shard_offset == at);
        int64_t corner = 0;  // row-major index of the box's first element
        for (size_t d = 0; d < piece.box.offsets.size(); ++d) corner = corner * layout.parameters[i].sizes[d] + piece.box.offsets[d];
        RC_ASSERT(corner == element);
        RC_ASSERT(layout.parameters[i].offset + element == rank * layout.shard_numel + at);
        at += volume(piece.box);
        element += volume(piece.box);
      }
      RC_ASSERT(element == layout.part(rank, i).end);
      covered += layout.part(rank, i).size();
    }
  }
  RC_ASSERT(covered == layout.numel);
}

}  // namespace
}  // namespace tessera
