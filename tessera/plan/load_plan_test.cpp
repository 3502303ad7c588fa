#include "tessera/plan/load_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tessera/layout/random_layouts.h"
#include "tessera/plan/description.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Manifest holding(const std::string& key, DType dtype, Sizes sizes) {
  Manifest manifest;
  manifest.entries[key] = {{key}, TensorEntry{dtype, sizes, {{whole(sizes), {"f", 0, 1}}}}};
  return manifest;
}
StateDict wanting(const std::string& key, DType dtype, Sizes sizes) {
  StateDict state;
  state.add(key, TensorLeaf{dtype, std::move(sizes), {}});
  return state;
}
Fault refused(const Manifest& manifest, const StateDict& state, const LoadOptions& options = {}) {
  const auto outcome = capture([&] { return match(manifest, state, 0, 2, options); });
  EXPECT_FALSE(outcome);
  return outcome.fault;
}

TEST(LoadPlan, WhatDiffersIsAnErrorUnlessItIsAllowed) {
  const Manifest manifest = holding("w", DType::float32, {4});
  const StateDict missing = wanting("v", DType::float32, {4});
  EXPECT_EQ(refused(manifest, missing).code, Code::not_found);
  EXPECT_THAT(match(manifest, missing, 0, 2, {.allow_missing = true}).missing, ElementsAre("v"));
  const StateDict reshaped = wanting("w", DType::float32, {5});
  EXPECT_THAT(refused(manifest, reshaped).what, AllOf(HasSubstr("'w'"), HasSubstr("[4]"), HasSubstr("[5]")));
  EXPECT_THAT(match(manifest, reshaped, 0, 2, {.allow_shape = true}).reshaped, ElementsAre("w"));
  const StateDict retyped = wanting("w", DType::bfloat16, {4});
  EXPECT_THAT(refused(manifest, retyped).what, AllOf(HasSubstr("'w'"), HasSubstr("float32"), HasSubstr("bfloat16")));
  EXPECT_THAT(match(manifest, retyped, 0, 2, {.allow_cast = true}).cast, ElementsAre("w"));
  EXPECT_EQ(refused(manifest, wanting("w", DType::int64, {4}), {.allow_cast = true}).code, Code::mismatch);
  StateDict object;
  object.add("w", Value(1));
  EXPECT_THAT(refused(manifest, object).what, HasSubstr("a tensor in the checkpoint and an object here"));
}

TEST(LoadPlan, AStateOfAnotherKindIsToldAsSuch) {
  EXPECT_THAT(refused(holding("_flat_param", DType::float32, {4}), wanting("w", DType::float32, {4})).hint, HasSubstr("kind local"));
  EXPECT_THAT(refused(holding("w", DType::float32, {4}), wanting("_flat_param", DType::float32, {4})).hint, HasSubstr("kind local"));
}

TEST(LoadPlan, ARankLocalValueComesBackToItsRankOrStartsAfresh) {
  Manifest manifest;
  for (int r = 0; r < 3; ++r) manifest.entries[rank_local_key("rng", r)] = {{"rng"}, ObjectEntry{{"f", 0, 1}}};
  StateDict strict;
  strict.add("rng", RankLocal{Value(1), false});
  StateDict lenient;
  lenient.add("rng", RankLocal{Value(1), true});
  EXPECT_EQ(match(manifest, strict, 2, 3, {}).objects.at(0).key, "rng.rank2");
  EXPECT_THAT(refused(manifest, strict).what, AllOf(HasSubstr("'rng' by 3"), HasSubstr("here are 2")));
  EXPECT_THAT(match(manifest, lenient, 0, 2, {}).reset, ElementsAre("rng"));
}

RC_GTEST_PROP(LoadPlan, ReadsTileWhatIsWantedAndNameTheSameElementsOnBothSides, ()) {
  const Sizes sizes = {*rc::gen::inRange<int64_t>(1, 7), *rc::gen::inRange<int64_t>(1, 7), *rc::gen::inRange<int64_t>(1, 4)};
  TensorEntry entry{DType::float32, sizes, {}};
  for (int64_t begin = 0, end = volume(sizes); begin < end;) {
    const int64_t next = *rc::gen::inRange<int64_t>(begin + 1, end + 1);
    for (Box& box : boxes_of_range(sizes, begin, next)) entry.chunks.push_back({std::move(box), {"f", 0, 1}});
    begin = next;
  }
  Box wanted = whole(sizes);
  for (size_t d = 0; d < sizes.size(); ++d) {
    wanted.offsets[d] = *rc::gen::inRange<int64_t>(0, sizes[d]);
    wanted.sizes[d] = *rc::gen::inRange<int64_t>(0, sizes[d] - wanted.offsets[d] + 1);
  }
  std::vector<Box> covered;
  for (const ChunkRead& read : cut(entry, wanted)) {
    RC_ASSERT(read.from.sizes == read.to.sizes);
    for (size_t d = 0; d < sizes.size(); ++d) {
      RC_ASSERT(read.from.offsets[d] + entry.chunks[read.chunk].box.offsets[d] == read.to.offsets[d] + wanted.offsets[d]);
    }
    covered.push_back(read.to);
  }
  check_tiling("wanted", wanted.sizes, covered, Code::internal);
}

// Guillotine cuts, in any order, empty ones among them.
TensorEntry any_tiling(const Sizes& sizes) {
  std::vector<Box> boxes = {whole(sizes)};
  for (int cuts = sizes.empty() ? 0 : *uniform(0, 16); cuts > 0; --cuts) {
    const auto which = *uniform<size_t>(0, boxes.size());
    const auto d = *uniform<size_t>(0, sizes.size());
    const int64_t first = *uniform<int64_t>(0, boxes[which].sizes[d] + 1);
    Box second = boxes[which];
    second.offsets[d] += first;
    second.sizes[d] -= first;
    boxes[which].sizes[d] = first;
    boxes.insert(boxes.begin() + *uniform<std::ptrdiff_t>(0, std::ssize(boxes) + 1), second);
  }
  if (*uniform(0, 2)) std::ranges::sort(boxes);
  TensorEntry entry{DType::float32, sizes, {}};
  for (const Box& box : boxes) entry.chunks.push_back({box, {"f", 0, 1}});
  return entry;
}

RC_GTEST_PROP(LoadPlan, FindsInAnyTilingWhatALookAtEachChunkFinds, ()) {
  const Sizes sizes = *any_sizes();
  const TensorEntry entry = any_tiling(sizes);
  const Box wanted = *any_box(sizes);
  std::vector<ChunkRead> expected;
  for (size_t c = 0; c < entry.chunks.size(); ++c) {
    const Box& chunk = entry.chunks[c].box;
    if (const auto both = intersect(chunk, wanted)) expected.push_back({c, relative(*both, chunk), relative(*both, wanted)});
  }
  RC_ASSERT(cut(entry, wanted) == expected);
}

// Boxes that begin below the first row are looked for from the wrong end: with so many chunks that is still bearable.
TEST(LoadPlan, ManyBoxesOfManyChunksAreNoBurden) {
  constexpr int64_t chunks = 20'000;
  TensorEntry entry{DType::float32, {4, chunks}, {}};
  for (int64_t c = 0; c < chunks; ++c) entry.chunks.push_back({{{0, c}, {4, 1}}, {"f", 0, 1}});
  for (int64_t c = 0; c + 1 < chunks; ++c) ASSERT_EQ(cut(entry, {{1, c}, {2, 2}}).size(), 2u);
}

}  // namespace
}  // namespace tessera
